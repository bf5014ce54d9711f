//! The report as a page, in a browser.

use std::fs::File;
use std::io::BufReader;

use crate::peers::{Place, peer, run, tuyau};

#[test]
fn explain_draws_a_page() {
    let place = Place::new();
    let (page, picture, profile) = (place.path("page.html"), place.path("page.png"), place.path("profile"));
    let explain = tuyau(["explain", "tcp://localhost:1", "--html", &page]);
    assert!(run(explain, b"").code(1).text().contains("could not connect"), "the text is printed as well");
    let mut browser = peer(
        "chromium",
        [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--blink-settings=preferredColorScheme=1",
            "--window-size=1200,900",
        ],
    );
    browser.arg(format!("--user-data-dir={profile}"));
    browser.arg(format!("--screenshot={picture}"));
    browser.arg(format!("file://{page}"));
    let ended = run(browser, b"");
    let file = File::open(&picture).unwrap_or_else(|error| panic!("{error}: {}", ended.stderr));
    let pixels = pixels(file);
    let count = |colour: [u8; 3]| pixels.iter().filter(|pixel| **pixel == colour).count();
    // The bars and boxes of two candidates that failed, on a white card, and nothing that went well.
    assert!(count([0xc0, 0x32, 0x2b]) > 1000, "{} red pixels", count([0xc0, 0x32, 0x2b]));
    assert!(count([0xff, 0xff, 0xff]) > 100_000, "{} white pixels", count([0xff, 0xff, 0xff]));
    assert_eq!(count([0x1a, 0x7f, 0x4b]), 0, "green pixels");
}

#[test]
fn a_page_that_cant_be_written_is_an_error() {
    let ended = run(tuyau(["explain", "tcp://localhost:1", "--html", "/no/such/dir/page.html"]), b"").code(1);
    assert!(ended.stderr.contains("the page /no/such/dir/page.html: No such file"), "{}", ended.stderr);
}

pub(crate) fn pixels(file: File) -> Vec<[u8; 3]> {
    let mut reader = png::Decoder::new(BufReader::new(file)).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut bytes).unwrap();
    let size = info.color_type.samples();
    bytes[..info.buffer_size()].chunks_exact(size).map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect()
}
