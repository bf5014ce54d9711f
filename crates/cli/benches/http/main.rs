//! The server against bare hyper on a `TcpStream` and against nginx, and the client against hyper-util's, all in
//! turns in one run. What counts is the CPU time of the server's thread or process per request: requests per
//! second depend on what else the machine does.
//!
//! `cargo bench -p tuyau-cli --bench http [WORD]…` runs the rows whose names have any of the words in them:
//! `hello`, `64K`, `h1`, `h2c`, `tls`, `client`, `idle`.

mod clients;
mod idle;
mod load;
mod servers;

use load::{Load, h1, h2};
use servers::{Identity, Nginx, Serving, Speaks};

const ROUNDS: usize = 61;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    if let [role, server] = &words[..]
        && role == idle::ROLE
    {
        return idle::serve(server);
    }
    let wanted = |row: &str| words.is_empty() || words.iter().any(|word| row.contains(word.as_str()));
    let identity = Identity::new();
    println!("{:22} {:>9}   ours / other, medians of rounds", "", "ours");
    for (speaks, tls) in [(Speaks::H1, false), (Speaks::H2, false), (Speaks::H1, true), (Speaks::H2, true)] {
        for (what, path, requests) in [("hello", "/", 2_000), ("64K", "/large", 600)] {
            let name = match (speaks, tls) {
                (Speaks::H1, false) => "h1",
                (Speaks::H2, false) => "h2c",
                (Speaks::H1, true) => "tls h1",
                (Speaks::H2, true) => "tls h2",
            };
            let row = format!("{name}, {what}");
            if wanted(&row) {
                server(&row, speaks, tls.then_some(&identity), path, requests);
            }
        }
    }
    for (row, speaks) in [("client, h1", Speaks::H1), ("client, h2c", Speaks::H2)] {
        if wanted(row) {
            clients::compare(row, speaks);
        }
    }
    if wanted("idle") {
        idle::compare();
    }
}

fn server(row: &str, speaks: Speaks, tls: Option<&Identity>, path: &'static str, requests: usize) {
    let nginx = Nginx::start(speaks, tls);
    let mut servers = vec![
        ("", Serving::ours(speaks, tls)),
        ("hyper", Serving::hyper(speaks, tls, false)),
        ("nginx", nginx.serving()),
        // How much of a difference is none.
        ("hyper again", Serving::hyper(speaks, tls, false)),
    ];
    if speaks == Speaks::H1 {
        servers.push(("hyper, its timer set", Serving::hyper(speaks, tls, true)));
    }
    let load = |server: &Serving| match speaks {
        Speaks::H1 => h1(server.port, tls, path, requests),
        Speaks::H2 => h2(server.port, tls, path, requests),
    };
    let mut loads: Vec<Load> = servers.iter().map(|(_, server)| load(server)).collect();
    let mut measured = Measured::new(servers.len());
    for round in 0..=ROUNDS {
        for which in order(round, servers.len()) {
            let before = servers[which].1.cpu();
            let time = (loads[which].run)();
            // The first is for getting warm.
            if round > 0 {
                measured.push(which, time, servers[which].1.cpu() - before);
            }
        }
    }
    let names: Vec<_> = servers.iter().map(|(name, _)| *name).collect();
    measured.show(row, &names, requests);
}

/// Who comes after whom in this round, another order in each: who comes first has other caches.
fn order(round: usize, contenders: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..contenders).collect();
    let scatter = |which: &usize| ((round + 1) * (which + 1)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    order.sort_by_key(scatter);
    order
}

/// Seconds, and nanoseconds of CPU time, of each round of each contender. Ours is the first.
struct Measured(Vec<Vec<(f64, f64)>>);

impl Measured {
    fn new(contenders: usize) -> Self {
        Self(vec![Vec::new(); contenders])
    }

    fn push(&mut self, which: usize, time: f64, cpu: f64) {
        self.0[which].push((time, cpu));
    }

    fn show(&self, row: &str, names: &[&str], requests: usize) {
        let ours = &self.0[0];
        let each = median(ours.iter().map(|(_, cpu)| cpu / requests as f64)) / 1e3;
        print!("{row:22} {each:>6.2} µs");
        for (name, theirs) in names.iter().zip(&self.0).skip(1) {
            let pairs = || ours.iter().zip(theirs);
            let cpu = median(pairs().map(|((_, ours), (_, theirs))| ours / theirs));
            let rate = median(pairs().map(|((ours, _), (theirs, _))| theirs / ours));
            print!("   {name}: CPU {cpu:.3}, rate {rate:.3}");
        }
        println!();
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
