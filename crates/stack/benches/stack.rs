//! A stack against the same smoltcp without us, alternating in one run: over TAP devices at MTU 1500, with the kernel's
//! TCP at the other end, and over a link in memory, with another of its kind. Then, what buffers of other sizes give.
//!
//! It makes a network namespace: run it as root, or under `unshare -Urn`.

#[cfg(target_os = "linux")]
mod bare;

#[cfg(target_os = "linux")]
fn main() {
    linux::main();
}

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
mod linux {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::process::Command;
    use std::time::Instant;

    use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, unshare};
    use nix::unistd::Pid;
    use tokio::runtime::Runtime;
    use tuyau_core::{ConnectCx, Context, Flow, Net, Target};
    use tuyau_stack::{Conditions, Config, Link, Stack, TunTap};

    use super::bare::{Bare, Memory};

    /// How often each is measured; the medians count.
    const ROUNDS: usize = 61;
    const BULK: usize = 8 << 20;
    const CHUNK: usize = 64 << 10;
    const TRIPS: usize = 500;
    pub(super) const BUFFER: usize = 128 << 10;

    pub(super) fn main() {
        unshare(CloneFlags::CLONE_NEWNET).expect("run it as root, or under `unshare -Urn`");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        println!("{:52} {:>12} {:>12} {:>8}", "", "bare smoltcp", "stack", "ratio");
        tap(&runtime);
        memory(&runtime);
        println!("\n{:52} {:>12} {:>12}", "buffers, over TAP", "read", "write");
        for kib in [32, 64, 96, 128, 256, 512, 1024, 4096] {
            buffers(&runtime, kib);
        }
    }

    /// The same work for a bare socket and for a flow, in turns: the seconds of each.
    fn alternate(mut bare: impl FnMut() -> f64, mut flow: impl FnMut() -> f64) -> (f64, f64, f64) {
        let mut times = [vec![], vec![]];
        for round in 0..ROUNDS {
            for turn in 0..2 {
                let which = (round + turn) % 2;
                times[which].push(if which == 0 { bare() } else { flow() });
            }
        }
        let ratio = median(times[0].iter().zip(&times[1]).map(|(bare, flow)| bare / flow));
        (median(times[0].iter().copied()), median(times[1].iter().copied()), ratio)
    }

    fn bulk(what: &str, bare: impl FnMut() -> f64, flow: impl FnMut() -> f64) {
        let (bare, flow, ratio) = alternate(bare, flow);
        println!("{what:52} {:>12} {:>12} {ratio:>8.3}", rate(bare), rate(flow));
    }

    fn tap(runtime: &Runtime) {
        let mut bare = Bare::on_tap("bare0", 1);
        let ours = runtime.block_on(async { stack_on("ours0", 2, BUFFER) });
        let (mut flow, mut bare_socket) =
            (connect(runtime, &ours, 2, source), bare.connect(listen(1, source)));
        bulk("read 8 MiB over TAP", || bare.read(bare_socket, BULK), || read(runtime, &mut flow));
        (flow, bare_socket) = (connect(runtime, &ours, 2, sink), bare.connect(listen(1, sink)));
        bulk("write 8 MiB over TAP", || bare.write(bare_socket, BULK), || write(runtime, &mut flow));
        // Where the peer's thread is woken is the scheduler's choice, and a factor of four: here all are on one CPU.
        let cpus = sched_getaffinity(Pid::this()).expect("an affinity");
        let first = (0..CpuSet::count()).find(|cpu| cpus.is_set(*cpu) == Ok(true)).expect("a CPU");
        let mut one = CpuSet::new();
        one.set(first).expect("it is one");
        sched_setaffinity(Pid::this(), &one).expect("it is ours");
        (flow, bare_socket) = (connect(runtime, &ours, 2, echo), bare.connect(listen(1, echo)));
        let (bare, flow, ratio) = alternate(|| bare.trips(bare_socket, TRIPS), || trips(runtime, &mut flow));
        let each = |seconds: f64| format!("{:.2} µs", seconds * 1e6 / TRIPS as f64);
        println!(
            "{:52} {:>12} {:>12} {ratio:>8.3}",
            "round trip of 64 bytes over TAP",
            each(bare),
            each(flow)
        );
        sched_setaffinity(Pid::this(), &cpus).expect("they are ours");
    }

    fn memory(runtime: &Runtime) {
        let (mut client, mut server) = runtime.block_on(async {
            let clock = tuyau_tokio::runtime();
            let (here, there) = Link::new(clock.clone(), Conditions::new(), 1).ends();
            let stack =
                |last, port| Stack::new(Config::new().address([10, 0, 0, last], 24), port, clock.clone());
            let (client, server) = (stack(1, here).expect("a stack"), stack(2, there).expect("a stack"));
            let cx = cx();
            let mut listener =
                server.listen(&Target::Addr(([10, 0, 0, 2], 80).into()), &cx).await.expect("listen");
            let local = listener.local();
            let (client, server) = tokio::join!(client.connect(&local, &cx), listener.accept());
            (client.expect("connect"), server.expect("accept").finish().await.expect("no handshake"))
        });
        let (here, there) = Link::new(tuyau_tokio::runtime(), Conditions::new(), 1).ends();
        let mut bare = Memory::new(here, there);
        let buffer = vec![7; CHUNK];
        let mut got = vec![0; CHUNK];
        bulk(
            "8 MiB from one to another in memory",
            || bare.transfer(BULK),
            || {
                let began = Instant::now();
                runtime.block_on(async {
                    let writing = async {
                        for _ in 0..BULK / CHUNK {
                            client.write_all(&buffer).await.expect("write");
                        }
                    };
                    tokio::join!(writing, read_all(&mut server, &mut got));
                });
                began.elapsed().as_secs_f64()
            },
        );
    }

    fn buffers(runtime: &Runtime, kib: usize) {
        let ours = runtime.block_on(async { stack_on("size0", 3, kib << 10) });
        let mut flow = connect(runtime, &ours, 3, source);
        let reads = median((0..9).map(|_| read(runtime, &mut flow)));
        flow = connect(runtime, &ours, 3, sink);
        let writes = median((0..9).map(|_| write(runtime, &mut flow)));
        drop((flow, ours));
        // The device goes with its driver.
        runtime.block_on(async { tokio::task::yield_now().await });
        ip("link delete size0");
        println!("{:52} {:>12} {:>12}", format!("{kib} KiB"), rate(reads), rate(writes));
    }

    fn cx() -> ConnectCx<'static> {
        ConnectCx::new(&tuyau_tokio::derivations(Context::new())).expect("a context")
    }

    fn stack_on(name: &str, net: u8, buffer: usize) -> Stack {
        let device = TunTap::tap(name, [2, 0, 0, 0, net, 2]).expect("a TAP device");
        up(name, net);
        let config = Config::new().address([10, net, 0, 2], 24).buffers(buffer, buffer);
        Stack::new(config, device, tuyau_tokio::runtime()).expect("a stack")
    }

    /// The kernel's side of a device.
    pub(super) fn up(name: &str, net: u8) {
        ip(&format!("address add 10.{net}.0.1/24 dev {name}"));
        ip(&format!("link set {name} up"));
    }

    fn ip(arguments: &str) {
        let ended = Command::new("ip").args(arguments.split(' ')).status();
        assert!(ended.is_ok_and(|status| status.success()) || arguments.contains("delete"), "ip {arguments}");
    }

    fn connect(runtime: &Runtime, stack: &Stack, net: u8, serve: fn(TcpStream)) -> Flow {
        let target = Target::Addr(listen(net, serve));
        let cx = cx();
        runtime.block_on(stack.connect(&target, &cx)).expect("connect")
    }

    /// A thread of the kernel's side.
    fn listen(net: u8, serve: fn(TcpStream)) -> std::net::SocketAddr {
        let listener = TcpListener::bind(std::net::SocketAddr::from(([10, net, 0, 1], 0))).expect("bind");
        let address = listener.local_addr().expect("bound");
        std::thread::spawn(move || {
            if let Ok((stream, _)) = listener.accept() {
                stream.set_nodelay(true).expect("nodelay");
                serve(stream);
            }
        });
        address
    }

    fn source(mut stream: TcpStream) {
        let bytes = vec![0; CHUNK];
        while stream.write_all(&bytes).is_ok() {}
    }

    fn sink(mut stream: TcpStream) {
        let mut bytes = vec![0; CHUNK];
        while stream.read(&mut bytes).is_ok_and(|n| n > 0) {}
    }

    fn echo(mut stream: TcpStream) {
        let mut bytes = [0; 64];
        while stream.read_exact(&mut bytes).is_ok() && stream.write_all(&bytes).is_ok() {}
    }

    fn read(runtime: &Runtime, flow: &mut Flow) -> f64 {
        let mut bytes = vec![0; CHUNK];
        let began = Instant::now();
        runtime.block_on(read_all(flow, &mut bytes));
        began.elapsed().as_secs_f64()
    }

    async fn read_all(flow: &mut Flow, bytes: &mut [u8]) {
        let mut left = BULK;
        while left > 0 {
            let most = left.min(bytes.len());
            left -= flow.read(&mut bytes[..most]).await.expect("read");
        }
    }

    fn write(runtime: &Runtime, flow: &mut Flow) -> f64 {
        let bytes = vec![0; CHUNK];
        let began = Instant::now();
        runtime.block_on(async {
            for _ in 0..BULK / CHUNK {
                flow.write_all(&bytes).await.expect("write");
            }
        });
        began.elapsed().as_secs_f64()
    }

    fn trips(runtime: &Runtime, flow: &mut Flow) -> f64 {
        let mut bytes = [0; 64];
        let began = Instant::now();
        runtime.block_on(async {
            for _ in 0..TRIPS {
                flow.write_all(&bytes).await.expect("write");
                flow.read_exact(&mut bytes).await.expect("read");
            }
        });
        began.elapsed().as_secs_f64()
    }

    fn rate(seconds: f64) -> String {
        format!("{:.0} MB/s", BULK as f64 / seconds / 1e6)
    }

    fn median(values: impl Iterator<Item = f64>) -> f64 {
        let mut values: Vec<f64> = values.collect();
        values.sort_unstable_by(f64::total_cmp);
        values[values.len() / 2]
    }
}
