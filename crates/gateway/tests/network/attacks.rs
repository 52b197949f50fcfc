//! What must not be reached is not, whatever is tried from within and whatever the outside answers.

use std::sync::{Arc, atomic::Ordering};

use skep_gateway::net::{Decision, Direct, Reason, Rules};
use tokio::net::TcpListener;

use crate::{
    outside::{Names, Outside},
    world::{Connected, Sandboxes},
};

fn only(allow: &[&str]) -> Rules {
    let allow: Vec<String> = allow.iter().map(|text| (*text).to_owned()).collect();
    Rules::parse(true, &allow, &["0.0.0.0/0".into()]).unwrap()
}

pub async fn nothing_inside_is_reached(all: &Sandboxes) {
    let (outside, names) = (Outside::new(), Names::new(&[("evil.org", "169.254.169.254")]));
    let inside = [
        "169.254.169.254:80",
        "10.0.0.1:80",
        "172.16.0.1:22",
        "192.168.1.1:443",
        "100.64.0.1:80",
        "198.18.0.1:80",
        "[::ffff:169.254.169.254]:80",
        "[::ffff:10.0.0.1]:80",
        "[fd00:ec2::254]:80",
        "[64:ff9b::a9fe:a9fe]:80",
        "[2002:a9fe:a9fe::1]:80",
        "10.100.0.1:80",
        "[fd00:7368::1]:22",
        "203.0.114.7:80",
        "[::ffff:203.0.114.7]:80",
        "[64:ff9b::cb00:7207]:80",
        "[2002:cb00:7207::1]:80",
    ];
    for address in inside {
        outside.page(address, "the canary").await;
    }
    outside.page("169.254.169.254:80", "the canary").await;
    for rules in [Rules::open(), Rules::parse(true, &["0.0.0.0/0".into(), "*".into(), "evil.org".into()], &[]).unwrap()] {
        let box_ = all.connected(&outside, &names, rules).await;
        let tried: Vec<String> = inside.iter().map(|to| format!("print({to:?}, attempt({to:?}))")).collect();
        let said = box_.python(&tried.join("\n")).await;
        assert_eq!(said.lines().filter(|line| line.ends_with("ConnectionRefusedError")).count(), inside.len(), "{said}");
        assert_eq!(box_.log.of("169.254.169.254:80").unwrap().decision, Decision::Deny(Reason::NotPublic));
        assert_eq!(box_.log.of("203.0.114.7:80").unwrap().decision, Decision::Deny(Reason::ThisMachine));
        let broadcast = "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\ns.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)\n\
                         for to in ['255.255.255.255', '224.0.0.251', '10.100.0.3']:\n    try: s.sendto(b'x', (to, 5353))\n    except OSError: pass";
        box_.python(broadcast).await;
    }
    assert_eq!(outside.dialled(), [], "it was dialled");
    // Named by an address, it is reached: that is what naming is for.
    let box_ = all.connected(&outside, &names, only(&["169.254.169.254"])).await;
    assert_eq!(box_.connect("169.254.169.254:80").await, "open");
    assert_eq!(box_.connect("10.0.0.1:80").await, "ConnectionRefusedError");
}

pub async fn no_listener_of_the_host_is_reached(all: &Sandboxes) {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut addresses =
        vec!["127.0.0.1".to_owned(), "127.8.8.8".into(), "[::1]".into(), "0.0.0.0".into(), "10.100.0.1".into(), "10.100.0.2".into()];
    // The address that this machine would speak from, if it has one.
    let towards = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    if towards.connect("192.0.2.1:9").is_ok() {
        addresses.push(towards.local_addr().unwrap().ip().to_string());
    }
    let everything: Vec<String> =
        addresses.iter().map(|address| address.trim_matches(['[', ']']).to_owned()).chain(["0.0.0.0/0".into()]).collect();
    let rules = Rules::parse(true, &everything, &[]).unwrap();
    let box_ = all.connected_by(Arc::new(Direct::default()), &Names::new(&[]), rules).await;
    for address in &addresses {
        assert_eq!(box_.connect(&format!("{address}:{port}")).await, "ConnectionRefusedError", "{address}");
    }
    let reached = tokio::time::timeout(std::time::Duration::from_millis(100), listener.accept()).await;
    assert!(reached.is_err(), "somebody came: {reached:?}");
}

pub async fn a_redirect_leads_nowhere_inside(all: &Sandboxes) {
    let (outside, names) = (Outside::new(), Names::new(&[("good.org", "1.2.3.4")]));
    outside.page("1.2.3.4:80", "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest\r\nConnection: close\r\n\r\n").await;
    outside.page("169.254.169.254:80", "HTTP/1.1 200 OK\r\n\r\nthe canary").await;
    let box_ = all.connected(&outside, &names, Rules::open()).await;
    let fetch = "import urllib.request as u\ntry: print(u.urlopen('http://good.org/', timeout=5).read())\nexcept OSError as e: print(e.reason, end='')";
    assert!(box_.python(fetch).await.contains("refused"));
    assert_eq!(outside.dialled(), ["1.2.3.4:80".parse().unwrap()]);
}

/// Sends a ClientHello with this server name to an address, cut into parts, and says what came back.
async fn hello(box_: &Connected, to: &str, name: &str, cut: usize) -> String {
    let program = format!(
        "import ssl\nout = ssl.MemoryBIO()\nctx = ssl.create_default_context()\nctx.check_hostname = False\n\
         o = ctx.wrap_bio(ssl.MemoryBIO(), out, server_hostname={name:?})\n\
         try: o.do_handshake()\nexcept ssl.SSLWantReadError: pass\nhello = out.read()\n\
         try:\n    s = dial({to:?})\n    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)\n    \
         for at in range(0, len(hello), {cut}):\n        s.sendall(hello[at:at + {cut}])\n        time.sleep(0.001)\n    print(everything(s).decode(), end='')\n\
         except OSError as e: print(type(e).__name__, end='')"
    );
    box_.python(&program).await
}

pub async fn an_address_literal_with_a_forged_name_is_refused(all: &Sandboxes) {
    let (outside, names) = (Outside::new(), Names::new(&[("good.org", "1.2.3.4"), ("also.good.org", "1.2.3.5")]));
    let (good, evil) = (outside.page("1.2.3.4:443", "good").await, outside.page("6.6.6.6:443", "evil").await);
    let box_ = all.connected(&outside, &names, only(&["good.org", "also.good.org"])).await;
    assert_eq!(hello(&box_, "6.6.6.6:443", "good.org", 9_999).await, "ConnectionRefusedError");
    assert_eq!(hello(&box_, "1.2.3.4:443", "good.org", 9_999).await, "ConnectionRefusedError", "not resolved yet");
    assert_eq!(hello(&box_, "good.org:443", "good.org", 9_999).await, "good");
    assert_eq!(hello(&box_, "1.2.3.4:443", "good.org", 100).await, "good", "resolved before, and in parts");
    assert_eq!(hello(&box_, "6.6.6.6:443", "good.org", 9_999).await, "ConnectionRefusedError");
    assert!(good.load(Ordering::Relaxed) > 400 && evil.load(Ordering::Relaxed) == 0);
    assert!(!outside.dialled().contains(&"6.6.6.6:443".parse().unwrap()));
    assert_eq!(box_.log.of("1.2.3.4:443").unwrap().name.unwrap().as_str(), "good.org");
}

pub async fn another_name_than_the_resolved_one_is_refused(all: &Sandboxes) {
    let (outside, names) = (Outside::new(), Names::new(&[("good.org", "1.2.3.4"), ("also.good.org", "1.2.3.5")]));
    let heard = [outside.page("1.2.3.4:443", "shared").await, outside.page("1.2.3.4:8443", "shared").await];
    let box_ = all.connected(&outside, &names, only(&["good.org", "*.good.org"])).await;
    for to in ["good.org:443", "good.org:8443"] {
        for name in ["evil.org", "also.good.org", "good.org.evil.org"] {
            assert_eq!(hello(&box_, to, name, 9_999).await, "ConnectionResetError", "{to} {name}");
        }
    }
    assert_eq!(box_.log.of("1.2.3.4:443").unwrap().decision, Decision::Deny(Reason::OtherName));
    let bare = "s = dial('1.2.3.4:443')\ns.sendall(b'SSH-2.0-x\\r\\n')\ntry: print(s.recv(9))\nexcept OSError as e: print(type(e).__name__, end='')";
    assert_eq!(box_.python(bare).await, "ConnectionResetError");
    assert_eq!(heard.map(|heard| heard.load(Ordering::Relaxed)), [0, 0], "nothing was to pass");
}

pub async fn the_host_of_a_request_is_looked_at(all: &Sandboxes) {
    let (outside, names) = (Outside::new(), Names::new(&[("good.org", "1.2.3.4")]));
    let heard = outside.page("1.2.3.4:80", "page").await;
    let box_ = all.connected(&outside, &names, only(&["good.org"])).await;
    let request = async |text: &str| {
        let program = format!(
            "s = dial('good.org:80')\ns.sendall({text:?}.encode())\ntry: print(everything(s).decode(), end='')\nexcept OSError as e: print(type(e).__name__, end='')"
        );
        box_.python(&program).await
    };
    for hostile in [
        "GET / HTTP/1.1\r\nHost: evil.org\r\n\r\n",
        "GET http://evil.org/ HTTP/1.1\r\nHost: good.org\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: good.org\r\nHost: evil.org\r\n\r\n",
        "CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: good.org\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
    ] {
        assert_eq!(request(hostile).await, "ConnectionResetError", "{hostile:?}");
    }
    assert_eq!(heard.load(Ordering::Relaxed), 0);
    assert_eq!(request("GET / HTTP/1.1\r\nHost: good.org\r\n\r\n").await, "page");
}
