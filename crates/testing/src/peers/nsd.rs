//! NSD, a name server.

use std::fs;
use std::net::SocketAddr;
use std::sync::Mutex;

use super::install::command;
use super::process::Peer;
use crate::Place;

/// NSD, authoritative for zones that a test makes, on UDP and TCP. Dropped, it ends.
#[derive(Debug)]
pub struct Nsd {
    address: SocketAddr,
    /// Shared by threads, as a case of the net suite is.
    _peer: Mutex<Peer>,
    _place: Place,
}

impl Nsd {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// NSD at `address`, for zones: the name of each, and its records (RFC 1035 section 5) without the SOA
/// and NS records, which are added; an absence is kept for `60` seconds.
///
/// # Panics
/// If it is not installed, or does not start.
#[track_caller]
pub fn nsd(address: SocketAddr, zones: &[(&str, &str)]) -> Nsd {
    let place = Place::new();
    let dir = place.dir().display();
    let mut config = format!(
        "server:\n ip-address: {}@{}\n username: \"\"\n chroot: \"\"\n zonesdir: \"{dir}\"\n database: \"\"\n \
         pidfile: \"\"\n zonelistfile: \"{dir}/zones\"\n xfrdfile: \"\"\n xfrdir: \"{dir}\"\n server-count: 1\n \
         cookie-secret-file: \"\"\nremote-control:\n control-enable: no\n",
        address.ip(),
        address.port(),
    );
    for (name, records) in zones {
        let text = format!(
            "$ORIGIN {name}.\n$TTL 60\n@ SOA ns hostmaster 1 3600 900 86400 60\n@ NS ns\nns A 192.0.2.53\n{records}\n"
        );
        fs::write(place.path(&format!("{name}.zone")), text).expect("the directory is ours");
        config += &format!("zone:\n name: {name}\n zonefile: {name}.zone\n");
    }
    let file = place.path("nsd.conf");
    fs::write(&file, config).expect("the directory is ours");
    let mut peer = Peer::spawn(command("nsd", "nsd").args(["-d", "-c", &file]));
    peer.error_line("nsd started");
    Nsd { address, _peer: Mutex::new(peer), _place: place }
}
