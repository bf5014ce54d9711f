//! Chromium, without a window, with a profile of its own.

use std::fs::File;
use std::io::BufReader;
use std::process::Command;

use crate::peers::{Peer, Place, peer, run};

const FLAGS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--blink-settings=preferredColorScheme=1",
    "--disable-extensions",
];

fn chromium(place: &Place, more: &[&str]) -> Command {
    let mut browser = peer("chromium", FLAGS.iter().chain(more));
    browser.arg(format!("--user-data-dir={}", place.path("")));
    browser
}

/// The pixels of the page at `url`, in a window of this size.
pub(crate) fn picture(url: &str, size: &str, more: &[&str]) -> Vec<[u8; 3]> {
    let place = Place::new();
    let file = place.path("page.png");
    let mut browser = chromium(&place, more);
    browser.args([&format!("--window-size={size}"), &format!("--screenshot={file}"), url]);
    let ended = run(browser, b"");
    let file = File::open(&file).unwrap_or_else(|error| panic!("{error}: {}", ended.stderr));
    let mut reader = png::Decoder::new(BufReader::new(file)).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut bytes).unwrap();
    let size = info.color_type.samples();
    bytes[..info.buffer_size()].chunks_exact(size).map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect()
}

/// The page at `url` as its scripts left it.
pub(crate) fn page(url: &str, more: &[&str]) -> String {
    let place = Place::new();
    let mut browser = chromium(&place, more);
    browser.args(["--dump-dom", url]);
    run(browser, b"").code(0).text().to_owned()
}

/// A browser with the page at `url`, and its profile, until both are dropped.
pub(crate) fn opened(url: &str, more: &[&str]) -> (Peer, Place) {
    let place = Place::new();
    let mut browser = chromium(&place, more);
    browser.args(["--remote-debugging-port=0", url]);
    (Peer::spawn(&mut browser), place)
}

/// The flag that has it trust the certificate in the file `cert`, and no other that it does not know.
pub(crate) fn trusting(cert: &str) -> String {
    let script = format!(
        "openssl x509 -in {cert} -noout -pubkey | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | openssl base64"
    );
    let hash = run(peer("sh", ["-c", &script]), b"").code(0).text().trim().to_owned();
    format!("--ignore-certificate-errors-spki-list={hash}")
}
