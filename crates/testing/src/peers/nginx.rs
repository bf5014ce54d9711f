//! nginx.

use std::fs;

use super::install::command;
use super::process::Peer;
use crate::Place;

/// One process of nginx, with this in its `http` block; all that it writes is in `place`. It listens when this returns.
///
/// # Panics
/// If it is not installed, or does not take that.
#[track_caller]
pub fn nginx(place: &Place, http: &str) -> Peer {
    let (dir, file) = (place.dir().display(), place.path("nginx.conf"));
    let config = format!(
        "daemon off; master_process off; pid {dir}/pid; error_log stderr info;
         events {{ }}
         http {{
             access_log off; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
             uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
             {http}
         }}"
    );
    fs::write(&file, config).expect("write");
    let mut command = command("nginx", "nginx-light");
    command.args(["-p", &place.path(""), "-c", &file, "-e", "stderr"]);
    let mut peer = Peer::spawn(&mut command);
    // It listens before it says this.
    peer.error_line("getrlimit");
    peer
}
