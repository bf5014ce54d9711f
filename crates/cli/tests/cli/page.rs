//! The report as a page, in a browser.

use crate::browser::picture;
use crate::peers::{Place, run, tuyau};

#[test]
fn explain_draws_a_page() {
    let place = Place::new();
    let page = place.path("page.html");
    let explain = tuyau(["explain", "tcp://localhost:1", "--html", &page]);
    assert!(run(explain, b"").code(1).text().contains("could not connect"), "the text is printed as well");
    let pixels = picture(&format!("file://{page}"), "1200,900", &[]);
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

#[test]
fn a_page_on_standard_output_is_all_that_is_there() {
    let ended = run(tuyau(["explain", "tcp://localhost:1", "--html", "-"]), b"").code(1);
    let page = ended.text();
    assert!(page.starts_with("<!") && page.trim_end().ends_with("</html>"), "{page}");
    let ended = run(tuyau(["explain", "tcp://localhost:1", "--html", "-", "--json"]), b"").code(2);
    assert!(ended.stderr.contains("--json has no use with --html -"), "{}", ended.stderr);
}
