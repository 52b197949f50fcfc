//! The TCP of one connection of a sandbox: smoltcp, with exactly one socket and the other side's address for its own.
//!
//! One for each connection: a packet then costs the same with one connection or two thousand, and no lock is shared. Pure but for the device that packets
//! go out to; the time is given.

use std::{net::SocketAddr, time::Instant};

use smoltcp::{
    iface::{Config, Interface, PollResult, SocketHandle, SocketSet},
    phy::{self, Checksum, ChecksumCapabilities, DeviceCapabilities, Medium},
    socket::tcp::{Socket, SocketBuffer},
    time::{Duration, Instant as Moment},
    wire::{HardwareAddress, IpAddress, IpCidr, IpListenEndpoint},
};

use super::{device::Device, packet::HEAD};

/// Of each direction.
const BUFFER: usize = 256 << 10;
/// Sent in one go.
const MOST_PACKETS: usize = 64;
/// How often a side that is silent is asked whether it is there, and how long it may leave that without an answer: its kernel answers, also for a
/// sandbox that is paused.
const ASKED: Duration = Duration::from_secs(60);
const SILENCE: Duration = Duration::from_secs(300);

pub(super) struct Endpoint {
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    began: Instant,
    /// The longest packet of the device.
    mtu: usize,
}

impl Endpoint {
    /// What will answer to a connection from somebody to `to`. `seed` is what the first sequence number is made of.
    pub fn new(device: &Device, to: SocketAddr, mtu: usize, seed: u64) -> Self {
        let began = Instant::now();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut port = Port { device, mtu, inbound: None };
        let mut interface = Interface::new(config, &mut port, Moment::ZERO);
        let address = IpAddress::from(to.ip());
        // In a network with everybody, so that there is a way to everybody.
        interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(IpCidr::new(address, 0));
        });
        let buffer = || SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        socket.set_keep_alive(Some(ASKED));
        socket.set_timeout(Some(SILENCE));
        // It cannot fail: the port is not 0 and the socket is new.
        let _ = socket.listen(IpListenEndpoint { addr: Some(address), port: to.port() });
        let mut sockets = SocketSet::new(Vec::with_capacity(1));
        let handle = sockets.add(socket);
        Self { interface, sockets, handle, began, mtu }
    }

    /// Takes a packet in.
    pub fn take(&mut self, device: &Device, packet: &[u8]) {
        let mut port = Port { device, mtu: self.mtu, inbound: Some(packet) };
        let now = self.now();
        let _ = self.interface.poll_ingress_single(now, &mut port, &mut self.sockets);
    }

    /// Sends what there is to send: data, acknowledgements, repetitions.
    pub fn tell(&mut self, device: &Device) {
        let mut port = Port { device, mtu: self.mtu, inbound: None };
        let now = self.now();
        // A packet a time; never more than both buffers hold.
        for _ in 0..MOST_PACKETS {
            if self.interface.poll_egress(now, &mut port, &mut self.sockets) == PollResult::None {
                break;
            }
        }
    }

    /// When there is something to send again, at the latest.
    pub fn next(&mut self) -> Option<std::time::Duration> {
        let now = self.now();
        self.interface.poll_delay(now, &self.sockets).map(std::time::Duration::from)
    }

    pub fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    fn now(&self) -> Moment {
        Moment::from_micros(i64::try_from(self.began.elapsed().as_micros()).unwrap_or(i64::MAX))
    }
}

/// What smoltcp takes for its device: at most one packet in, any number out.
struct Port<'a> {
    device: &'a Device,
    mtu: usize,
    inbound: Option<&'a [u8]>,
}

impl phy::Device for Port<'_> {
    type RxToken<'a>
        = Inbound<'a>
    where
        Self: 'a;
    type TxToken<'a>
        = Outbound<'a>
    where
        Self: 'a;

    fn receive(&mut self, _now: Moment) -> Option<(Inbound<'_>, Outbound<'_>)> {
        Some((Inbound(self.inbound.take()?), Outbound(self.device)))
    }

    fn transmit(&mut self, _now: Moment) -> Option<Outbound<'_>> {
        Some(Outbound(self.device))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities.checksum = ChecksumCapabilities::ignored();
        // The kernel looks at this one.
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities
    }
}

struct Inbound<'a>(&'a [u8]);

impl phy::RxToken for Inbound<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, read: F) -> R {
        read(self.0)
    }
}

struct Outbound<'a>(&'a Device);

impl phy::TxToken for Outbound<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, write: F) -> R {
        let mut buffer = self.0.buffer();
        let packet = &mut buffer[..HEAD + length];
        let made = write(&mut packet[HEAD..]);
        self.0.send_tcp(packet);
        self.0.spare(buffer);
        made
    }
}
