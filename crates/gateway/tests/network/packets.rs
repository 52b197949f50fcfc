//! Packets that no kernel would send, given to the stack through a socket that stands for the device.

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use skep_gateway::net::{Attached, Network, Owner, Rules};
use tokio::{net::UnixDatagram, sync::watch, time::timeout};

use crate::{
    outside::{Names, Outside},
    world::Log,
};

/// A stack, the other end of its device, and the way to other rules.
fn stack(log: &Arc<Log>) -> (Attached, UnixDatagram, watch::Sender<Rules>, Arc<Outside>) {
    let (here, there) = std::os::unix::net::UnixDatagram::pair().unwrap();
    let outside = Outside::new();
    let network = Network::new(Arc::clone(&outside) as _, Names::new(&[]), Arc::clone(log) as _);
    let (rules, receiver) = watch::channel(Rules::open());
    let attached = network.attach(OwnedFd::from(there), Owner("test".into()), receiver).unwrap();
    here.set_nonblocking(true).unwrap();
    (attached, UnixDatagram::from_std(here).unwrap(), rules, outside)
}

/// A segment of TCP without data, behind the device's header.
fn segment(from: [u8; 4], from_port: u16, to: [u8; 4], port: u16, flags: u8) -> Vec<u8> {
    let mut packet = vec![0; 10];
    packet.extend([0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0]);
    packet.extend(from);
    packet.extend(to);
    packet.extend(from_port.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    packet
}

const SELF: [u8; 4] = [10, 100, 0, 2];
const GATEWAY: [u8; 4] = [10, 100, 0, 1];

/// Whether the stack still answers: a connection to a port of the gateway where nobody listens is refused.
async fn answers(device: &UnixDatagram, port: u16) -> bool {
    device.send(&segment(SELF, port, GATEWAY, 1, 2)).await.unwrap();
    let mut buffer = vec![0; 70_000];
    let refused = async {
        loop {
            let got = device.recv(&mut buffer).await.unwrap();
            let packet = &buffer[10..got];
            if got == 50 && packet[9] == 6 && packet[22..24] == port.to_be_bytes() && packet[33] & 4 != 0 {
                return;
            }
        }
    };
    timeout(Duration::from_secs(10), refused).await.is_ok()
}

pub async fn malformed_packets_harm_nobody() {
    let (attached, device, _rules, outside) = stack(&Arc::default());
    assert!(answers(&device, 999).await);
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let valid = segment(SELF, 1_000, [1, 2, 3, 4], 80, 2);
    for n in 0..20_000u16 {
        let mut packet = match n % 4 {
            0 => (0..random() % 120).map(|_| random() as u8).collect(),
            1 => valid[..usize::from(n) % valid.len()].to_vec(),
            _ => valid.clone(),
        };
        for _ in 0..random() % 4 {
            let (at, to) = (random() as usize, random() as u8);
            let length = packet.len().max(1);
            if let Some(byte) = packet.get_mut(at % length) {
                *byte = to;
            }
        }
        if packet.is_empty() {
            continue;
        }
        device.send(&packet).await.unwrap();
        while device.try_recv(&mut [0; 2_000]).is_ok() {}
    }
    assert!(answers(&device, 1_001).await, "it fell over");
    assert!(outside.dialled().iter().all(|to| !to.ip().is_loopback()));
    assert!(attached.flows().len() <= 2_048);
}

pub async fn a_flood_of_openings_is_bounded() {
    let log = Arc::<Log>::default();
    let (attached, device, _rules, outside) = stack(&log);
    outside
        .serve("1.2.3.4:80", |stream| async move {
            let _ = stream.readable().await;
        })
        .await;
    // Nobody ever answers to what the stack says: all stay half open.
    for port in 1..=5_000 {
        device.send(&segment(SELF, port, [1, 2, 3, 4], 80, 2)).await.unwrap();
        while device.try_recv(&mut [0; 2_000]).is_ok() {}
    }
    assert!(answers(&device, 60_000).await);
    assert!((1..=2_048).contains(&attached.flows().len()), "{}", attached.flows().len());
    assert!(attached.traffic().refused >= 5_000 - 2_048);
    drop(attached);
    let ended: Vec<u64> = log.ended.lock().unwrap().iter().map(|flow| flow.id).collect();
    let each: std::collections::HashSet<u64> = ended.iter().copied().collect();
    assert!(each.len() == ended.len() && ended.len() >= 5_000, "every flow ends once: {} of {}", each.len(), ended.len());
}
