//! One end of a sandbox's network device: packets out of it and into it.
//!
//! Each has 10 bytes before it (`virtio_net_hdr`), by which both sides leave checksums out: a packet goes from one part of this machine's memory to
//! another. With packets of 64 KiB that is what makes it fast.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
    sync::{Mutex, PoisonError},
};

use tokio::io::{Interest, unix::AsyncFd};

use super::{kernel, packet::HEAD};

/// The longest packet and its header.
const MOST: usize = HEAD + 65_536;
/// Packets up to this size are copied, so that a large buffer is not held by a small one.
const SMALL: usize = 4_096;
/// Large buffers kept for the next packets.
const SPARE: usize = 64;

/// The field of the header that says: the checksum is still to be made, from here, to there.
const NEEDS_CHECKSUM: u8 = 1;

pub(super) struct Device {
    file: AsyncFd<File>,
    spare: Mutex<Vec<Vec<u8>>>,
}

impl Device {
    pub fn new(descriptor: OwnedFd) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&descriptor, true)?;
        Ok(Self { file: kernel::watched(descriptor.into())?, spare: Mutex::default() })
    }

    /// The next packet, without its header.
    pub async fn read(&self) -> io::Result<Packet> {
        let mut bytes = self.buffer();
        let got = self.file.async_io(Interest::READABLE, |mut file| file.read(&mut bytes)).await?;
        if got <= SMALL {
            let small = bytes[..got].to_vec();
            self.spare(bytes);
            return Ok(Packet { end: got, bytes: small });
        }
        Ok(Packet { end: got, bytes })
    }

    /// Sends a packet that begins with room for the header and has its checksum. Lost where the device takes none, as on every network.
    pub fn send(&self, packet: &[u8]) {
        let _ = self.file.get_ref().write(packet);
    }

    /// Sends a packet of a connection, whose checksum nobody makes.
    pub fn send_tcp(&self, packet: &mut [u8]) {
        let own: u16 = match packet.get(HEAD).map(|first| (first >> 4, first & 0xf)) {
            Some((4, words)) => u16::from(words) * 4,
            _ => 40,
        };
        let mut head = [0; HEAD];
        head[0] = NEEDS_CHECKSUM;
        head[6..8].copy_from_slice(&own.to_ne_bytes());
        head[8..10].copy_from_slice(&16u16.to_ne_bytes());
        packet[..HEAD].copy_from_slice(&head);
        self.send(packet);
    }

    /// A large buffer; what is in it is left of another packet of this device.
    pub fn buffer(&self) -> Vec<u8> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_else(|| vec![0; MOST])
    }

    /// Gives a buffer back.
    pub fn spare(&self, bytes: Vec<u8>) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes.len() == MOST && spare.len() < SPARE {
            spare.push(bytes);
        }
    }
}

/// A packet that came out.
pub(super) struct Packet {
    bytes: Vec<u8>,
    end: usize,
}

impl Packet {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(HEAD..self.end).unwrap_or_default()
    }

    /// Gives its buffer back.
    pub fn done(self, device: &Device) {
        device.spare(self.bytes);
    }
}
