//! What is printed: help, errors, reports, completions and the manual; and that it is plain where it must be.

use crate::peers::{Place, listening, peer, run, tuyau};

#[test]
fn help() {
    insta::assert_snapshot!(run(tuyau(["--help"]), b"").code(0).text());
}

#[test]
fn options_stand_under_headings_that_are_theirs() {
    for (command, options) in [
        ("ping", &["-n", "-i"][..]),
        ("plan", &["--json", "--dot"]),
        ("explain", &["--json", "--dot", "--html"]),
        ("demo client", &["-n"]),
    ] {
        let ended = run(tuyau(command.split(' ').chain(["--help"])), b"").code(0);
        let options_of = |heading: &str| {
            let (_, rest) = ended.text().split_once(&format!("\n{heading}:\n")).expect("a heading");
            rest.split("\n\n").next().unwrap_or_default().to_owned()
        };
        for option in options {
            let stands = |text: &str| text.lines().any(|line| line.contains(&format!(" {option} ")));
            let padded = |text: String| text.replace('\n', " \n") + " ";
            assert!(stands(&padded(options_of("Options"))), "{command} {option}: {}", ended.text());
            assert!(!stands(&padded(options_of("Policy"))), "{command} {option}: {}", ended.text());
        }
    }
    for command in ["completions", "man"] {
        assert!(!run(tuyau([command, "--help"]), b"").code(0).text().contains("verbose"), "{command}");
    }
    let get = run(tuyau(["get", "--help"]), b"").code(0);
    assert!(get.text().contains("FILE.part.version"), "{}", get.text());
}

#[test]
fn schemes() {
    let ended = run(tuyau(["schemes", "-v"]), b"").code(0);
    let row = |first: &str, other: &str| {
        let words = |line: &str| {
            line.split("  ").any(|cell| cell.trim() == other) && line.contains(&format!("{first} "))
        };
        assert!(ended.text().lines().any(words), "{first} {other}: {}", ended.text());
    };
    for scheme in tuyau::schemes() {
        row(scheme.name, scheme.example);
        scheme.options().for_each(|option| row(scheme.name, option.name));
    }
    assert!(!run(tuyau(["schemes"]), b"").code(0).text().contains("attempt-delay"));
}

#[test]
fn errors_point_at_the_part_and_say_what_would_be_right() {
    let mut said = String::new();
    for (args, code) in [
        (&["connect", "tpc://localhost:80"][..], 2),
        (&["connect", "tcp://localhost"], 2),
        (&["connect", "tcp://localhost:http"], 2),
        (&["connect", "noise://localhost:443"], 2),
        (&["connect", "htps://localhost"], 2),
        (&["explain", "htps://localhost"], 2),
        (&["plan", "postgres://localhost"], 2),
        (&["connect", "tcp://localhost:80", "--via", "tcp://localhost:1080"], 2),
        (&["connect", "tcp://localhost:80", "--via", "ssh:root@localhost"], 2),
        (&["connect", "systemd:web"], 2),
        (&["listen", "exec:cat"], 2),
        (&["listen", "unix:/no/such/directory/socket"], 1),
        (&["connect", "exec:no-such-program"], 1),
        (&["connect", "-"], 1),
    ] {
        let ended = run(tuyau(args), b"").code(code);
        assert_eq!(ended.text(), "");
        said.push_str(&format!("$ tuyau {}   # {code}\n{}\n", args.join(" "), ended.stderr));
    }
    // Times differ.
    insta::with_settings!({filters => vec![(r"\([0-9.]+ (µs|ms)\)", "(TIME)")]}, {
        insta::assert_snapshot!(said);
    });
}

#[test]
fn explain_names_both_families_the_refusal_and_the_time() {
    let ended = run(tuyau(["explain", "tcp://localhost:1"]), b"").code(1);
    let text = ended.text();
    assert!(!text.contains("crates/"), "no lines of our own source: {text}");
    for part in
        ["tcp [::1]:1: failed after ", "tcp 127.0.0.1:1: failed after ", "Connection refused", "what to do: "]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.starts_with("could not connect: 2 candidates failed ("), "{text}");
    assert_eq!(ended.stderr, "");
    let all = run(tuyau(["explain", "-v", "tcp://localhost:1"]), b"").code(1);
    assert!(all.text().contains("\nreads\n") && all.text().len() > text.len(), "{}", all.text());
}

#[test]
fn explain_in_other_forms() {
    let json = run(tuyau(["explain", "--json", "exec:cat"]), b"").code(0);
    let report: serde_json::Value = serde_json::from_slice(&json.stdout).expect("JSON");
    assert_eq!((&report["planned"], &report["winner"]), (&false.into(), &0.into()));
    let dot = run(tuyau(["explain", "--dot", "tcp://localhost:1"]), b"").code(1);
    assert!(dot.text().starts_with("digraph ") && dot.text().trim_end().ends_with('}'), "{}", dot.text());
    let ended = run(tuyau(["explain", "--dot", "--json", "mem:x"]), b"").code(2);
    assert!(ended.stderr.contains("cannot be used with"), "{}", ended.stderr);
}

#[test]
fn a_plan_does_nothing() {
    let place = Place::new();
    let file = place.path("made");
    let ended = run(tuyau(["plan", &format!("sh:touch {file}")]), b"").code(0);
    assert!(ended.text().starts_with("would try 1 candidate; nothing was run"), "{}", ended.text());
    assert_eq!(place.entries(), [""; 0]);
    let (mut server, uri) = listening(["demo", "server", "tcp://127.0.0.1:0", "-v"]);
    run(tuyau(["plan", &uri]), b"").code(0);
    run(tuyau(["explain", &uri]), b"").code(0);
    server.error_line("connection from ");
    assert!(server.error_line("lines answered").ends_with(": 0 lines answered"));
    server.signal(nix::sys::signal::Signal::SIGINT);
    let without_port = run(tuyau(["plan", "tcp://localhost"]), b"").code(2);
    assert!(without_port.stderr.starts_with("error: the port is missing\n"), "{}", without_port.stderr);
    assert_eq!(server.end().stderr.matches("connection from ").count(), 1, "explain connects, plan does not");
}

#[test]
fn completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let ended = run(tuyau(["completions", shell]), b"").code(0);
        assert!(ended.text().contains("connect-timeout"), "{shell}: {}", ended.text());
    }
    let bash = run(tuyau(["completions", "bash"]), b"").code(0);
    assert_eq!(run(peer("bash", ["-n"]), &bash.stdout).code(0).stderr, "");
}

#[test]
fn manual() {
    let page = run(tuyau(["man"]), b"").code(0);
    for section in [".SH NAME", ".SH SYNOPSIS", ".SH \"EXIT STATUS\"", ".SH URIS", ".SH \"FURTHER COMMANDS\""]
    {
        assert!(page.text().contains(section), "{section}");
    }
    let place = Place::new();
    run(tuyau(["man", &place.path("man")]), b"").code(0);
    for name in ["tuyau.1", "tuyau-connect.1", "tuyau-demo-client.1", "tuyau-tour.1"] {
        assert!(std::path::Path::new(&place.path(&format!("man/{name}"))).is_file(), "{name}");
    }
    assert_eq!(std::fs::read(place.path("man/tuyau.1")).expect("a page"), page.stdout);
}

#[test]
fn no_escapes_where_nobody_sees_colours() {
    let escapes = |args: &[&str]| {
        let ended = run(tuyau(args), b"");
        format!("{}{}", ended.text(), ended.stderr).contains('\u{1b}')
    };
    for args in
        [&["schemes"][..], &["connect", "nonsense"], &["explain", "tcp://localhost:1"], &["--help"], &["wat"]]
    {
        assert!(!escapes(args), "{args:?}");
    }
    assert!(escapes(&["schemes", "--color", "always"]));
    assert!(escapes(&["connect", "nonsense", "--color", "always"]));
}

#[test]
fn on_a_terminal_no_color_is_honoured() {
    let on_a_terminal = |args: &str, no_color: bool| {
        let line = format!("{} {args}", env!("CARGO_BIN_EXE_tuyau"));
        let mut command = peer("script", ["-qec", &line, "/dev/null"]);
        command.env_remove("NO_COLOR").env("TERM", "xterm");
        if no_color {
            command.env("NO_COLOR", "1");
        }
        run(command, b"")
    };
    // SGR, that is; a terminal may be drawn on without it.
    let coloured = |text: &str| {
        text.split("\u{1b}[")
            .skip(1)
            .any(|it| it.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m'))
    };
    assert!(coloured(on_a_terminal("explain tcp://localhost:1", false).code(1).text()));
    assert!(!coloured(on_a_terminal("explain tcp://localhost:1", true).code(1).text()));
    assert!(coloured(on_a_terminal("schemes", false).text()));
    assert!(!coloured(on_a_terminal("schemes", true).text()));
    assert!(!coloured(on_a_terminal("schemes --color never", false).text()));
    let tour = on_a_terminal("tour", false);
    assert!(coloured(tour.text()) && tour.text().contains("tcp v4"));
    assert!(!coloured(on_a_terminal("tour", true).text()));
}

#[test]
fn lines_are_wrapped_at_the_width_of_a_terminal_and_nowhere_else() {
    let longest = |text: &str| text.lines().map(|line| line.trim_end().chars().count()).max();
    for command in ["explain --color never", "ping -n 1 -v"] {
        let line = format!("stty cols 60; {} {command} tcp://localhost:1", env!("CARGO_BIN_EXE_tuyau"));
        let wrapped = run(peer("script", ["-qec", &line, "/dev/null"]), b"");
        let report = |text: &str| {
            let lines = text.lines().skip_while(|line| !line.contains("could not connect"));
            lines.take_while(|line| !line.starts_with("seq=")).collect::<Vec<_>>().join("\n")
        };
        let wrapped = report(wrapped.text());
        assert!(longest(&wrapped) <= Some(60) && wrapped.contains("what to do: "), "{command}: {wrapped}");
        let plain = run(tuyau(command.split(' ').chain(["tcp://localhost:1"])), b"");
        let plain = format!("{}{}", plain.text(), plain.stderr);
        assert!(plain.contains("is the server running, and on that address?\n"), "{command}: {plain}");
    }
}

#[test]
fn a_usage_error_exits_with_2_and_the_version_with_0() {
    run(tuyau(["connect"]), b"").code(2);
    run(tuyau([""; 0]), b"").code(2);
    assert!(run(tuyau(["--version"]), b"").code(0).text().starts_with("tuyau "));
}
