//! The tour.

use serde_json::Value;

use crate::peers::{Place, run, tuyau};

#[test]
fn each_transport_works_and_nothing_is_left_behind() {
    let place = Place::new();
    let mut command = tuyau(["tour", "--json"]);
    command.env("TMPDIR", place.path(""));
    let ended = run(command, b"").code(0);
    assert_eq!(ended.stderr, "");
    let tour: Value = serde_json::from_slice(&ended.stdout).expect("one JSON document");
    assert_eq!(tour["ok"], true);
    let rows = tour["rows"].as_array().expect("rows");
    let stacks: Vec<_> = rows.iter().filter_map(|row| row["stack"].as_str()).collect();
    let hops: Vec<_> = rows.iter().flat_map(|row| row["via"].as_array().into_iter().flatten()).collect();
    for scheme in tuyau::schemes().iter().filter(|scheme| scheme.connects) {
        // What is short for two others; what a terminal is, and what runs commands elsewhere.
        let shown = ["wss", "-", "ssh"].contains(&scheme.name)
            || stacks.iter().any(|it| it.split('+').any(|it| it == scheme.name));
        assert!(shown, "no row for {}", scheme.name);
    }
    for hop in ["exec:", "http:", "socks5:", "socks5h:", "ssh:"] {
        assert!(hops.iter().any(|it| it.as_str().is_some_and(|it| it.starts_with(hop))), "no row via {hop}");
    }
    assert!(rows.iter().any(|row| row["name"] == "own stack"));
    for row in rows {
        if row["ok"].is_null() {
            assert!(row["why"].is_string(), "{row}");
            continue;
        }
        assert_eq!(row["ok"], true, "{row}");
        assert!(row["connect_ms"].as_f64() > Some(0.0) && row["throughput"].as_f64() > Some(0.0), "{row}");
        assert!(row["rtt"]["median_ms"].as_f64() > Some(0.0), "{row}");
        for text in [&row["resolved"], &row["server"]["listener"], &row["server"]["peer"], &row["uri"]] {
            assert!(text.as_str().is_some_and(|text| !text.is_empty()), "{row}");
        }
    }
    // What the server saw of TCP is where the client went to.
    let tcp = rows.iter().find(|row| row["name"] == "tcp v4").expect("a row");
    assert_eq!(tcp["server"]["listener"], tcp["resolved"]);
    assert_eq!(tour["failure"]["ok"], true);
    let explanation = tour["failure"]["explanation"].as_str().expect("text");
    assert!(explanation.contains("refused") && explanation.contains("what to do:"), "{explanation}");
    assert_eq!(place.entries(), [""; 0]);
}

#[test]
fn the_table_is_plain_and_fits_120_columns() {
    let ended = run(tuyau(["tour"]), b"").code(0);
    let text = ended.text();
    assert!(!text.contains('\u{1b}') && ended.stderr.is_empty(), "{text}");
    assert!(text.starts_with("TRANSPORT  RESOLVED TO"), "{text}");
    for line in text.lines() {
        assert!(line.chars().count() <= 120, "{line}");
    }
    for name in [
        "tcp v4",
        "tcp name",
        "unix",
        "exec",
        "sh",
        "fifo",
        "mem",
        "tls",
        "wss",
        ">http",
        ">ssh",
        ">>tls",
        ">>>tls",
        "own stack",
    ] {
        let row = text.lines().find(|line| line.starts_with(&format!("{name} "))).expect(name);
        assert!(row.ends_with(" ok"), "{row}");
    }
    assert!(text.contains("And a failure, on purpose") && text.contains("127.0.0.1:"), "{text}");
}
