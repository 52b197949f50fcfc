//! What is allowed passes, whole and as fast as it comes.

use std::time::Duration;

use skep_gateway::net::{Decision, Protocol, Reason, Rules};
use tokio::io::AsyncWriteExt;

use crate::{
    outside::{Names, Outside},
    world::Sandboxes,
};

const PAGE: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello";

pub async fn a_page_is_fetched_by_its_name(all: &Sandboxes) {
    let (outside, names) = (Outside::new(), Names::new(&[("good.org", "93.184.216.34"), ("six.org", "2606:4700::1234")]));
    outside.page("93.184.216.34:80", PAGE).await;
    outside.page("[2606:4700::1234]:80", PAGE).await;
    let box_ = all.connected(&outside, &names, Rules::open()).await;
    let fetch = "import urllib.request as u\nfor n in ['good.org', 'six.org']: print(u.urlopen(f'http://{n}/').read().decode())";
    assert_eq!(box_.python(fetch).await, "hello\nhello\n");
    assert_eq!(box_.connect("[::ffff:93.184.216.34]:80").await, "open");
    assert_eq!(box_.connect("93.184.216.34:81").await, "ConnectionRefusedError");
    let flow = box_.log.of("93.184.216.34:80").unwrap();
    assert_eq!((flow.owner.0.as_str(), flow.protocol, flow.decision), ("test", Protocol::Tcp, Decision::Allow));
    let traffic = box_.attached.as_ref().unwrap().traffic();
    assert!(traffic.sent > 100 && traffic.received >= 2 * PAGE.len() as u64 && traffic.refused == 0, "{traffic:?}");
}

pub async fn both_directions_arrive_whole(all: &Sandboxes) {
    let (outside, names) = (Outside::new(), Names::new(&[]));
    outside.echo("1.2.3.4:7").await;
    outside.echo("[2606:4700::7]:7").await;
    let box_ = all.connected(&outside, &names, Rules::open()).await;
    for address in ["1.2.3.4:7", "[2606:4700::7]:7"] {
        let through = format!(
            "import hashlib, threading\ns = dial({address:?})\ndata = os.urandom(1 << 20) * 40 + b'end'\n\
             def send():\n    s.sendall(data)\n    s.shutdown(socket.SHUT_WR)\n\
             threading.Thread(target=send).start()\nback = everything(s)\nprint(len(back), back == data, end='')"
        );
        assert_eq!(box_.python(&through).await, "41943043 True", "{address}");
    }
    let ended = box_.log.ended.lock().unwrap().iter().map(|flow| (flow.sent, flow.received)).collect::<Vec<_>>();
    assert_eq!(ended, [(41_943_043, 41_943_043); 2]);
}

pub async fn an_end_of_one_side_is_told_to_the_other(all: &Sandboxes) {
    let (outside, names) = (Outside::new(), Names::new(&[]));
    outside.serve("1.2.3.4:1", |mut stream| async move { drop(stream.write_all(b"bye").await) }).await;
    outside
        .serve("1.2.3.4:2", |stream| async move {
            stream.writable().await.unwrap();
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        })
        .await;
    let (told, mut hears) = tokio::sync::mpsc::unbounded_channel();
    outside
        .serve("1.2.3.4:3", move |mut stream| {
            let told = told.clone();
            async move {
                let got = tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 8]).await;
                told.send(got.map_err(|error| error.kind())).unwrap();
            }
        })
        .await;
    let box_ = all.connected(&outside, &names, Rules::open()).await;
    let ends = "print(everything(dial('1.2.3.4:1')))\n\
                try: print(dial('1.2.3.4:2').recv(1))\nexcept (ConnectionResetError, ConnectionRefusedError): print('reset')\n\
                dial('1.2.3.4:3').close()\n\
                import struct\ns = dial('1.2.3.4:3')\ns.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))\ns.close()";
    assert_eq!(box_.python(ends).await, "b'bye'\nreset\n", "one that is reset before the gateway has told of it is refused");
    let mut heard = vec![hears.recv().await.unwrap(), hears.recv().await.unwrap()];
    heard.sort_by_key(Result::is_err);
    assert_eq!(heard, [Ok(0), Err(std::io::ErrorKind::ConnectionReset)]);
    for _ in 0..200 {
        if box_.attached.as_ref().unwrap().flows().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("flows were left: {:?}", box_.attached.as_ref().unwrap().flows());
}

pub async fn two_thousand_flows_at_once(all: &Sandboxes) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let most = getrlimit(Resource::Nofile).maximum;
    if most.is_some_and(|most| most < 10_000) {
        println!("passed over: 2,000 flows need 10,000 open files in this process, and it may have {most:?}");
        return;
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(most.unwrap_or(65_536).min(65_536)), maximum: most }).unwrap();
    let (outside, names) = (Outside::new(), Names::new(&[]));
    outside.echo("1.2.3.4:7").await;
    let box_ = all.connected(&outside, &names, Rules::open()).await;
    let many = "import select\nbegan = time.time()\nall = []\n\
                for n in range(2000):\n    s = socket.socket()\n    s.setblocking(False)\n    s.connect_ex(('1.2.3.4', 7))\n    all.append(s)\n\
                for n, s in enumerate(all):\n    s.settimeout(30)\n    select.select([], [s], [], 30) if n < 1000 else None\n    \
                while True:\n        try:\n            s.sendall(b'%08d' % n); break\n        except BlockingIOError: time.sleep(0.01)\n        \
                except OSError as e:\n            if e.errno != 107: raise\n            time.sleep(0.01)\n\
                good = sum(s.recv(8, socket.MSG_WAITALL) == b'%08d' % n for n, s in enumerate(all))\n\
                print(good, end='', flush=True)\nprint('%.2f s' % (time.time() - began), file=sys.stderr)\nsys.stdin.read()";
    let text = format!("import socket, sys, time\n{many}");
    let command =
        skep_sandbox::Command { stdio: skep_sandbox::Stdio::Open, ..skep_sandbox::Command::new(&["/usr/bin/python3", "-S", "-c", &text]) };
    let mut running = box_.sandbox.exec(command).await.unwrap();
    let mut good = [0; 4];
    tokio::io::AsyncReadExt::read_exact(running.stdout.as_mut().unwrap(), &mut good).await.unwrap();
    assert_eq!(&good, b"2000");
    assert_eq!(box_.attached.as_ref().unwrap().flows().len(), 2_000, "all of them at once");
    let finished = running.output(1 << 16).await.unwrap();
    println!("2,000 flows took {}", String::from_utf8_lossy(&finished.stderr).trim());
}

pub async fn datagrams_pass_and_quic_is_refused(all: &Sandboxes) {
    let (outside, names) = (Outside::new(), Names::new(&[]));
    outside.echo_datagrams("1.2.3.4:123").await;
    outside.echo_datagrams("1.2.3.4:443").await;
    outside.echo_datagrams("[2606:4700::7]:123").await;
    let box_ = all.connected(&outside, &names, Rules::open()).await;
    let speak = |to: &str| {
        format!(
            "h, p = split({to:?})\ns = socket.socket(socket.AF_INET6 if ':' in h else socket.AF_INET, socket.SOCK_DGRAM)\ns.settimeout(5)\ns.connect((h, p))\n\
             def ask(n):\n    s.send(b'x' * n)\n    try: return len(s.recv(65536))\n    except OSError as e: return type(e).__name__\n\
             print(ask(5), ask(9000), end='')"
        )
    };
    assert_eq!(box_.python(&speak("1.2.3.4:123")).await, "5 9000");
    assert_eq!(box_.python(&speak("[2606:4700::7]:123")).await, "5 9000");
    assert_eq!(box_.python(&speak("1.2.3.4:443")).await, "ConnectionRefusedError ConnectionRefusedError", "a client falls back at once");
    assert_eq!(box_.log.of("1.2.3.4:443").unwrap().decision, Decision::Deny(Reason::Quic));
    assert_eq!(box_.python(&speak("10.100.0.1:54")).await, "ConnectionRefusedError ConnectionRefusedError");
    assert!(!box_.python(&speak("169.254.169.254:123")).await.contains('5'));
    assert_eq!(outside.dialled().len(), 2);
}

pub async fn echoes_are_answered(all: &Sandboxes) {
    let (outside, names) = (Outside::new(), Names::new(&[]));
    let box_ = all.connected(&outside, &names, Rules::open()).await;
    let ping = |to: &str| {
        format!(
            "six = ':' in {to:?}\ns = socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM, 58 if six else 1)\ns.settimeout(3)\n\
             s.connect(({to:?}, 0))\ns.send(bytes([128 if six else 8, 0, 0, 0, 0, 0, 0, 9]) + b'payload')\n\
             try: print(s.recv(100)[6:].decode('latin1'), end='')\nexcept OSError as e: print('refused', end='')"
        )
    };
    for to in ["10.100.0.1", "fd00:7368::1", "1.2.3.4", "2606:4700::7"] {
        assert_eq!(box_.python(&ping(to)).await, "\0\tpayload", "{to}");
    }
    for to in ["169.254.169.254", "10.0.0.1"] {
        assert_eq!(box_.python(&ping(to)).await, "refused", "{to}");
    }
    assert_eq!(outside.dialled().len(), 2);
}

pub async fn rules_change_while_connections_are_open(all: &Sandboxes) {
    let (outside, names) = (Outside::new(), Names::new(&[]));
    outside.echo("1.2.3.4:7").await;
    let box_ = all.connected(&outside, &names, Rules::open()).await;
    let (began, mut begins) = tokio::sync::mpsc::unbounded_channel();
    outside
        .serve("1.2.3.4:8", move |stream| {
            let began = began.clone();
            async move {
                began.send(()).unwrap();
                stream.writable().await.unwrap();
                tokio::time::sleep(Duration::from_secs(50)).await;
            }
        })
        .await;
    let waits = "s = dial('1.2.3.4:8')\ns.settimeout(20)\ntry: print(s.recv(1))\nexcept OSError as e: print(type(e).__name__, end='')";
    let (said, ()) = tokio::join!(box_.python(waits), async {
        begins.recv().await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        box_.rules.send(Rules::closed()).unwrap();
    });
    assert_eq!(said, "ConnectionResetError");
    assert_eq!(box_.connect("1.2.3.4:7").await, "ConnectionRefusedError");
    assert_eq!(box_.log.of("1.2.3.4:7").unwrap().decision, Decision::Deny(Reason::NoInternet));
    box_.rules.send(Rules::parse(false, &["1.2.3.0/24".into()], &[]).unwrap()).unwrap();
    assert_eq!(box_.connect("1.2.3.4:7").await, "open");
}

pub async fn rules_that_change_while_a_connection_is_being_opened_hold_for_it(all: &Sandboxes) {
    let (outside, names) = (Outside::new(), Names::new(&[]));
    let heard = outside.page("1.2.3.4:80", PAGE).await;
    outside.delay.store(400, std::sync::atomic::Ordering::Relaxed);
    let box_ = all.connected(&outside, &names, Rules::open()).await;
    let ask = "try:\n    s = dial('1.2.3.4:80')\n    s.sendall(b'GET / HTTP/1.1\\r\\n\\r\\n')\n    print(s.recv(9))\nexcept OSError as e: print(type(e).__name__, end='')";
    let (said, ()) = tokio::join!(box_.python(ask), async {
        while outside.dialled().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        box_.rules.send(Rules::closed()).unwrap();
    });
    assert_eq!(said, "ConnectionRefusedError");
    assert_eq!(heard.load(std::sync::atomic::Ordering::Relaxed), 0);
}

pub async fn the_device_is_had_again(all: &Sandboxes) {
    let (outside, names) = (Outside::new(), Names::new(&[]));
    outside.echo("1.2.3.4:7").await;
    let mut box_ = all.connected(&outside, &names, Rules::open()).await;
    assert_eq!(box_.connect("1.2.3.4:7").await, "open");
    // As when a node ends and another finds the sandbox.
    box_.attached = None;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let device = box_.sandbox.device().await.unwrap();
    let owner = skep_gateway::net::Owner("test".into());
    box_.attached = Some(box_.network.attach(device, owner, box_.rules.subscribe()).unwrap());
    assert_eq!(box_.connect("1.2.3.4:7").await, "open");
}

pub async fn open_connections_that_are_silent_cost_nothing(all: &Sandboxes) {
    let (outside, names) = (Outside::new(), Names::new(&[]));
    outside.echo("1.2.3.4:7").await;
    // Says something, has finished, and goes on listening.
    outside
        .serve("1.2.3.4:8", |mut stream| async move {
            let _ = stream.write_all(b"x").await;
            let _ = stream.shutdown().await;
            let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
        })
        .await;
    // Says nothing, whatever it hears.
    outside.serve("1.2.3.4:9", |stream| async move { drop((stream, std::future::pending::<()>().await)) }).await;
    let rules = Rules::parse(true, &[], &["never.org".into()]).unwrap();
    let box_ = all.connected(&outside, &names, rules).await;
    let silent = "all = []\nfor n in range(50):\n    \
                  s = dial('1.2.3.4:7'); s.sendall(b'y'); s.recv(1); all.append(s)\n    \
                  s = dial('1.2.3.4:8'); s.sendall(b'y'); everything(s); all.append(s)\n    \
                  s = dial('1.2.3.4:9'); s.sendall(b'y'); s.shutdown(1); all.append(s)\n    \
                  all.append(dial('1.2.3.4:9'))\n\
                  print('open', flush=True)\nsys.stdin.read()";
    let text = format!("{}\n{silent}", crate::world::PRELUDE);
    let command =
        skep_sandbox::Command { stdio: skep_sandbox::Stdio::Open, ..skep_sandbox::Command::new(&["/usr/bin/python3", "-S", "-c", &text]) };
    let mut running = box_.sandbox.exec(command).await.unwrap();
    tokio::io::AsyncReadExt::read_exact(running.stdout.as_mut().unwrap(), &mut [0; 5]).await.unwrap();
    let used = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs().try_into().unwrap())
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(box_.attached.as_ref().unwrap().flows().len(), 200);
    let before = used();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let busy = used().saturating_sub(before);
    assert!(busy < Duration::from_millis(150), "200 silent connections took {busy:?} of a second");
    drop(running);
}
