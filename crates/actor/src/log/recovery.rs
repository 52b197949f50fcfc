//! Opening: what the segments say, which of it counts, and what is lost.
//!
//! The rule: a batch is written when the one before it is durable. So a broken place may be cut away in silence only if nothing of a later
//! batch stands anywhere in the log, and it looks as if it had not been written whole. Everything else was acknowledged, and is a loss:
//! of the actors that miss a record (their places have a gap, or a leaf names what is not there), or, where no leaf tells, of nobody knows
//! whom; the log then does not open unless losses are accepted. It is not: repair; that is [`LocalLog::repair`](super::LocalLog::repair).

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::Arc,
};

use skep_id::ActorId;

use super::{
    LogError,
    disk::{Disk, DiskFile, read_range},
    format::{HEADER, Header, Heads, PRELUDE, Prelude, Spot, What, extent, names, push_leaf, push_name, set_last},
    index::{Entry, Hurt, State},
    local::{Damage, HEADS, Settings, segment_name, segment_number},
    order::Tip,
    scan::{Piece, Scan, written_end},
};
use crate::record::{Epoch, Seq};

/// One segment that counts.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) size: u64,
    /// Where what was written ends.
    pub(crate) end: u64,
    /// Records in it that have not been trimmed.
    pub(crate) live: u64,
    /// It holds marks that concern older segments: it goes after them.
    pub(crate) marks: bool,
}

/// A range to be written over.
struct Gone {
    segment: u32,
    from: u64,
    extent: u64,
    batch: u64,
}

/// The log as it was found.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) states: HashMap<ActorId, State>,
    pub(crate) segments: BTreeMap<u32, Segment>,
    pub(crate) next_batch: u64,
    pub(crate) leaves: u64,
    pub(crate) newest: u32,
    pub(crate) damage: Vec<Damage>,
    /// What the next leaf names.
    pub(crate) uncovered: Vec<u8>,
}

/// A place where no whole record is.
#[derive(Debug)]
struct Broken {
    segment: u32,
    from: u64,
    to: u64,
    header: Option<Header>,
    torn: bool,
    /// The batch of the record before it, and whether that was its last.
    before: (u64, bool),
    /// The batch of the record after it.
    after: Option<u64>,
    /// Leaves before it, and the one after it.
    leaves: u64,
    next_leaf: Option<u64>,
}

impl Broken {
    /// Whether all that stood there was written in the last batch, `last`, or the one after it, and was never acknowledged.
    fn unacknowledged(&self, last: u64) -> bool {
        let in_last = self.before.0 == last || (self.before.1 && self.before.0 + 1 == last);
        self.torn
            && match (self.header, self.after) {
                (Some(header), _) => header.batch >= last,
                (None, Some(after)) => after == last && in_last,
                (None, None) => true,
            }
    }

    /// Whether the leaf behind it names everything that stood there.
    fn covered(&self) -> bool {
        self.header.is_some() || self.next_leaf == Some(self.leaves + 1)
    }
}

struct Recovery<'a> {
    disk: &'a dyn Disk,
    settings: &'a Settings,
    mark: u64,
    out: Recovered,
    broken: Vec<Broken>,
    /// Index into `broken` of the first that waits for the record, and the leaf, after it.
    waits: (usize, usize),
    before: (u64, bool),
    /// First record of the last batch.
    last_start: Spot,
    /// Actors whose record at a place was not there, and the batch of the next one that was.
    gaps: Vec<(ActorId, Seq, u64)>,
    leaves: Vec<Spot>,
    /// Marks that end what an actor had before.
    ends: HashMap<ActorId, Spot>,
    missing: Vec<u32>,
}

/// Reads everything, cuts what was torn, and makes the last batch durable: after a failed sync the system's cache may hold what the disk
/// does not, so that it is written once more.
pub(crate) fn recover(disk: &dyn Disk, settings: &Settings, mark: u64) -> Result<Recovered, LogError> {
    let mut recovery = Recovery {
        disk,
        settings,
        mark,
        out: Recovered::default(),
        broken: Vec::new(),
        waits: (0, 0),
        before: (0, true),
        last_start: Spot::default(),
        gaps: Vec::new(),
        leaves: Vec::new(),
        ends: HashMap::new(),
        missing: Vec::new(),
    };
    recovery.read_segments()?;
    recovery.judge()?;
    Ok(recovery.out)
}

impl Recovery<'_> {
    fn at(&self, name: &str) -> impl Fn(io::Error) -> LogError + use<> {
        let path = self.disk.path(name);
        move |error| LogError::File(path.clone(), error)
    }

    fn damaged(&self, name: &str, offset: u64, why: impl Into<String>) -> LogError {
        LogError::Damaged { file: self.disk.path(name), offset, why: why.into() }
    }

    /// Where actors stand of whom nothing is in the segments. Without the file, segments that were removed count as missing.
    fn read_heads(&mut self, names: &[String]) -> Result<Heads, LogError> {
        let none = Heads { oldest: 1, ..Heads::default() };
        if !names.iter().any(|name| name == HEADS) {
            return Ok(none);
        }
        let file = self.disk.open(HEADS).map_err(self.at(HEADS))?;
        let size = file.size().map_err(self.at(HEADS))? as usize;
        let bytes = read_range(&*file, 0, size).map_err(self.at(HEADS))?;
        if let Some(heads) = Heads::decode(&bytes, self.mark) {
            return Ok(heads);
        }
        const WHY: &str = "the heads of actors are not whole: what was trimmed cannot be told from what is lost";
        if !self.settings.accept_losses {
            return Err(self.damaged(HEADS, 0, WHY));
        }
        self.find(None, HEADS, 0, WHY);
        Ok(none)
    }

    fn read_segments(&mut self) -> Result<(), LogError> {
        let names = self.disk.list().map_err(self.at(""))?;
        let heads = self.read_heads(&names)?;
        let mut numbers: Vec<u32> = names.iter().filter_map(|name| segment_number(name)).collect();
        numbers.sort_unstable();
        // A removal was cut off in the middle.
        let (numbers, left): (Vec<u32>, Vec<u32>) = numbers.into_iter().partition(|n| *n >= heads.oldest && !heads.dropped.contains(n));
        for number in left {
            self.disk.remove(&segment_name(number)).map_err(self.at(&segment_name(number)))?;
        }
        self.out.newest = heads.dropped.iter().copied().chain([heads.oldest - 1]).max().unwrap_or(0);
        self.out.states = heads.heads.iter().map(|head| (head.actor, State::known(head))).collect();
        let numbers = self.open_segments(numbers)?;
        let newest = numbers.last().copied().unwrap_or(0);
        self.missing = (heads.oldest..newest).filter(|n| !heads.dropped.contains(n) && numbers.binary_search(n).is_err()).collect();
        self.out.newest = self.out.newest.max(newest);
        for (at, number) in numbers.iter().enumerate() {
            let end = match numbers.get(at + 1) {
                Some(next) if *next == number + 1 => self.prelude(*next)?.map(|next| next.previous_end),
                _ => None,
            };
            self.read_segment(*number, end, at + 1 == numbers.len())?;
        }
        Ok(())
    }

    /// Opens them; one at the end that was prepared and never written to is removed.
    fn open_segments(&mut self, mut numbers: Vec<u32>) -> Result<Vec<u32>, LogError> {
        let last = numbers.last().copied();
        for number in &numbers {
            let name = segment_name(*number);
            let file = self.disk.open(&name).map_err(self.at(&name))?;
            let size = file.size().map_err(self.at(&name))?;
            if last == Some(*number) {
                let bytes = read_range(&*file, 0, size as usize).map_err(self.at(&name))?;
                if written_end(&bytes, 0) == 0 {
                    self.disk.remove(&name).map_err(self.at(&name))?;
                    continue;
                }
            }
            self.out.segments.insert(*number, Segment { file, size, end: PRELUDE as u64, live: 0, marks: false });
        }
        numbers.retain(|number| self.out.segments.contains_key(number));
        Ok(numbers)
    }

    fn prelude(&self, number: u32) -> Result<Option<Prelude>, LogError> {
        let name = segment_name(number);
        let Some(segment) = self.out.segments.get(&number) else { return Ok(None) };
        let bytes = read_range(&*segment.file, 0, PRELUDE).map_err(self.at(&name))?;
        Ok(Prelude::decode(&bytes).filter(|prelude| prelude.mark == self.mark && prelude.number == number))
    }

    fn read_segment(&mut self, number: u32, end: Option<u64>, newest: bool) -> Result<(), LogError> {
        let name = segment_name(number);
        let (file, size) = match self.out.segments.get(&number) {
            Some(segment) => (segment.file.clone(), segment.size),
            None => return Ok(()),
        };
        let mut bytes = read_range(&*file, 0, end.unwrap_or(size) as usize).map_err(self.at(&name))?;
        // Cut short by somebody: the rest is missing, as zeros are.
        bytes.resize(end.unwrap_or(size) as usize, 0);
        match self.prelude(number)? {
            Some(prelude) => {
                self.out.leaves = self.out.leaves.max(prelude.leaves);
                self.before = (prelude.batch - 1, true);
            }
            // Its first write was torn, or it was passed over and never written to.
            None if newest || end == Some(PRELUDE as u64) => {}
            None => self.find(None, &name, 0, "the beginning of the segment is not whole; nothing is lost by it"),
        }
        let mut written = PRELUDE as u64;
        for piece in Scan::new(self.mark, &bytes, PRELUDE, end.is_some()) {
            written = match piece {
                Piece::Record { at, header, mended } => {
                    if mended {
                        self.find(None, &name, at as u64, "one bit of a record's header has flipped; nothing is lost by it");
                    }
                    self.record(Spot { segment: number, offset: at as u32 }, &header);
                    (at + header.extent()) as u64
                }
                Piece::Broken { from, to, header, torn } => {
                    self.broken.push(Broken {
                        segment: number,
                        from: from as u64,
                        to: to as u64,
                        header,
                        torn,
                        before: self.before,
                        after: None,
                        leaves: self.out.leaves,
                        next_leaf: None,
                    });
                    to as u64
                }
            };
        }
        if let Some(segment) = self.out.segments.get_mut(&number) {
            segment.end = written;
        }
        Ok(())
    }

    fn find(&mut self, actor: Option<ActorId>, name: &str, offset: u64, why: impl Into<String>) {
        self.out.damage.push(Damage { actor, file: self.disk.path(name), offset, why: why.into() });
    }

    fn record(&mut self, spot: Spot, header: &Header) {
        for broken in &mut self.broken[self.waits.0..] {
            broken.after = Some(header.batch);
        }
        self.waits.0 = self.broken.len();
        if header.batch != self.before.0 {
            self.last_start = spot;
        }
        self.before = (header.batch, header.last);
        match header.what {
            What::Record(_) => self.actors_record(spot, header),
            What::Leaf => self.leaf(spot, header),
            What::Cut | What::Forget => self.mark(spot, header),
            What::Void => {}
        }
    }

    fn actors_record(&mut self, spot: Spot, header: &Header) {
        push_name(&mut self.out.uncovered, header.actor, header.seq);
        let state = self.out.states.entry(header.actor).or_default();
        if spot < state.since || header.seq <= state.trimmed {
            return;
        }
        let expected = state.tip.seq.next();
        if header.seq < expected {
            // No writer does this. The earlier one stands.
            return;
        }
        if header.seq > expected {
            self.gaps.push((header.actor, expected, header.batch));
            state.index.extend((expected.0..header.seq.0).map(|_| Entry::LOST));
        }
        state.push(header.epoch, header.seq, Entry { segment: spot.segment, offset: spot.offset, body_bytes: header.body_bytes });
    }

    fn leaf(&mut self, spot: Spot, header: &Header) {
        for broken in &mut self.broken[self.waits.1..] {
            broken.next_leaf = Some(header.seq.0);
        }
        self.waits.1 = self.broken.len();
        self.out.leaves = header.seq.0;
        self.out.uncovered.clear();
        self.leaves.push(spot);
    }

    fn mark(&mut self, spot: Spot, header: &Header) {
        if let Some(segment) = self.out.segments.get_mut(&spot.segment) {
            segment.marks = true;
        }
        self.ends.insert(header.actor, spot);
        if header.what == What::Cut {
            if let Some(state) = self.out.states.get_mut(&header.actor).filter(|state| spot >= state.since) {
                state.cut(header.seq);
                state.queued = Tip::default();
            }
            return;
        }
        // Also where nothing of the actor is left before the mark: one that begins anew must not be ended by it at a later opening.
        let state = self.out.states.entry(header.actor).or_default();
        if spot >= state.since {
            let since = Spot { segment: spot.segment, offset: spot.offset + HEADER as u32 };
            *state = State { since, ..State::default() };
        }
    }

    /// Decides what each broken place is, and leaves the last segment so that the log can go on in it.
    fn judge(&mut self) -> Result<(), LogError> {
        let last = self.before.0;
        let broken = std::mem::take(&mut self.broken);
        let (torn, acknowledged): (Vec<Broken>, Vec<Broken>) = broken.into_iter().partition(|broken| broken.unacknowledged(last));
        let mut dropped = Vec::new();
        if acknowledged.is_empty() && self.missing.is_empty() {
            dropped = self.drop_after_gaps(last)?;
            self.forget_names_of_dropped();
        }
        self.refuse_what_nobody_can_name(&acknowledged)?;
        self.attribute(&acknowledged)?;
        self.missed_by_heads(&acknowledged);
        self.out.states.retain(|_, state| state.tip != Tip::default() || state.since != Spot::default());
        for state in self.out.states.values_mut() {
            state.queued = state.tip;
            for entry in &state.index {
                if let Some(segment) = self.out.segments.get_mut(&entry.segment) {
                    segment.live += 1;
                }
            }
        }
        let accepted = acknowledged.iter().filter(|broken| !broken.covered());
        self.write_once_more(&torn, dropped, accepted)?;
        self.out.next_batch = self.before.0 + 1;
        Ok(())
    }

    /// Without damage, a gap is the work of the torn batch: what stands in it after the gap was not acknowledged either.
    fn drop_after_gaps(&mut self, last: u64) -> Result<Vec<(Spot, u64)>, LogError> {
        let mut dropped = Vec::new();
        for (actor, expected, batch) in std::mem::take(&mut self.gaps) {
            let Some(state) = self.out.states.get_mut(&actor) else { continue };
            if batch != last || state.first_lost() != Some(expected) {
                self.gaps.push((actor, expected, batch));
                continue;
            }
            for entry in state.cut(Seq(expected.0 - 1)).into_iter().filter(|entry| !entry.is_lost()) {
                let extent = extent(entry.body_bytes as usize) as u64;
                dropped.push((Spot { segment: entry.segment, offset: entry.offset }, extent));
            }
            let (promised, last) = (state.queued.epoch, state.index.back().copied());
            let epoch = last.map_or(Ok(promised), |entry| self.epoch_of(entry))?;
            if let Some(state) = self.out.states.get_mut(&actor) {
                state.tip.epoch = epoch;
            }
        }
        Ok(dropped)
    }

    fn forget_names_of_dropped(&mut self) {
        let mut kept = Vec::new();
        for (actor, seq) in names(&self.out.uncovered) {
            if self.out.states.get(&actor).is_some_and(|state| state.tip.seq >= seq) {
                push_name(&mut kept, actor, seq);
            }
        }
        self.out.uncovered = kept;
    }

    fn epoch_of(&self, entry: Entry) -> Result<Epoch, LogError> {
        let name = segment_name(entry.segment);
        let segment = self.out.segments.get(&entry.segment).ok_or_else(|| self.damaged(&name, 0, "the segment is missing"))?;
        let bytes = read_range(&*segment.file, entry.offset.into(), HEADER).map_err(self.at(&name))?;
        let header = Header::decode(self.mark, &bytes)
            .ok_or_else(|| self.damaged(&name, entry.offset.into(), "it has changed while it was read"))?;
        Ok(header.epoch)
    }

    fn refuse_what_nobody_can_name(&mut self, acknowledged: &[Broken]) -> Result<(), LogError> {
        const UNKNOWN: &str = "acknowledged records of actors that cannot be named stood here";
        let missing =
            self.missing.iter().map(|n| (*n, 0, "the segment is missing, and with it acknowledged records of actors that cannot be named"));
        let unnamed = acknowledged.iter().filter(|broken| !broken.covered()).map(|broken| (broken.segment, broken.from, UNKNOWN));
        for (segment, offset, why) in missing.chain(unnamed).collect::<Vec<_>>() {
            if !self.settings.accept_losses {
                let why = format!("{why}; the log opens without them only if losses are accepted");
                return Err(self.damaged(&segment_name(segment), offset, why));
            }
            self.find(None, &segment_name(segment), offset, why);
        }
        Ok(())
    }

    /// Names the actors that miss something.
    fn attribute(&mut self, acknowledged: &[Broken]) -> Result<(), LogError> {
        for broken in acknowledged.iter() {
            if let Some(Header { what: What::Record(_), actor, seq, .. }) = broken.header {
                self.lose(actor, seq, Spot { segment: broken.segment, offset: broken.from as u32 });
            }
        }
        if !acknowledged.is_empty() || !self.missing.is_empty() {
            for spot in std::mem::take(&mut self.leaves) {
                for (actor, seq) in self.names_at(spot)? {
                    self.lose(actor, seq, spot);
                }
            }
        }
        let hurt: Vec<(ActorId, Seq)> = self.out.states.iter().filter_map(|(actor, state)| Some((*actor, state.first_lost()?))).collect();
        for (actor, seq) in hurt {
            let place = acknowledged.iter().find(|broken| broken.header.is_some_and(|header| header.actor == actor && header.seq == seq));
            let place = place.or_else(|| acknowledged.iter().find(|broken| broken.header.is_none())).or(acknowledged.first());
            let (segment, offset) = place.map_or((self.missing.first().copied().unwrap_or(1), 0), |broken| (broken.segment, broken.from));
            self.hurt(actor, segment, offset, format!("record {seq} of actor {actor} is lost"));
        }
        // Broken places without an actor that misses something: what they held was trimmed, or the log's own.
        for broken in acknowledged.iter().filter(|broken| broken.covered()) {
            let place = self.disk.path(&segment_name(broken.segment));
            if !self.out.damage.iter().any(|damage| damage.file == place && damage.offset == broken.from) {
                self.find(None, &segment_name(broken.segment), broken.from, "no record is whole here; no actor misses one");
            }
        }
        Ok(())
    }

    fn names_at(&self, spot: Spot) -> Result<Vec<(ActorId, Seq)>, LogError> {
        let name = segment_name(spot.segment);
        let Some(segment) = self.out.segments.get(&spot.segment) else { return Ok(Vec::new()) };
        let header = read_range(&*segment.file, spot.offset.into(), HEADER).map_err(self.at(&name))?;
        let Some((header, _)) = Header::decode_mended(self.mark, &header) else { return Ok(Vec::new()) };
        let body =
            read_range(&*segment.file, u64::from(spot.offset) + HEADER as u64, header.body_bytes as usize).map_err(self.at(&name))?;
        Ok(names(&body).collect())
    }

    /// A record that was there at `spot` or before it is lost, if it is neither there nor given up since.
    fn lose(&mut self, actor: ActorId, seq: Seq, spot: Spot) {
        if self.ends.get(&actor).is_some_and(|end| spot < *end) {
            return;
        }
        let state = self.out.states.entry(actor).or_default();
        if spot < state.since || seq <= state.tip.seq.max(state.trimmed) {
            return;
        }
        state.index.extend((state.tip.seq.0..seq.0).map(|_| Entry::LOST));
        state.tip.seq = seq;
    }

    fn hurt(&mut self, actor: ActorId, segment: u32, offset: u64, why: String) {
        let name = segment_name(segment);
        self.find(Some(actor), &name, offset, why.clone());
        if let Some(state) = self.out.states.get_mut(&actor) {
            state.hurt = Some(Box::new(Hurt { file: name.into(), offset, why }));
        }
    }

    /// The file of heads knows of records that are not there.
    fn missed_by_heads(&mut self, acknowledged: &[Broken]) {
        let short: Vec<(ActorId, Tip)> = self
            .out
            .states
            .iter()
            .filter(|(_, state)| state.queued.seq > state.tip.seq)
            .map(|(actor, state)| (*actor, state.queued))
            .collect();
        let (segment, offset) = acknowledged.first().map_or((self.out.newest.max(1), 0), |broken| (broken.segment, broken.from));
        for (actor, promised) in short {
            let Some(state) = self.out.states.get_mut(&actor) else { continue };
            state.index.extend((state.tip.seq.0..promised.seq.0).map(|_| Entry::LOST));
            state.tip = promised;
            self.hurt(actor, segment, offset, format!("record {} of actor {actor} is lost", promised.seq));
        }
    }

    /// Zeros over what was torn, then voids where records follow, then the last batch again with a leaf behind it. Each step is durable before
    /// the next, so that a crash in the middle finds what this found.
    fn write_once_more<'b>(
        &mut self,
        torn: &'b [Broken],
        dropped: Vec<(Spot, u64)>,
        accepted: impl Iterator<Item = &'b Broken>,
    ) -> Result<(), LogError> {
        let Some((&number, _)) = self.out.segments.last_key_value() else { return Ok(()) };
        let last = self.before.0;
        let (mut voids, mut tails) = (Vec::new(), Vec::new());
        voids.extend(dropped.into_iter().map(|(spot, extent)| Gone {
            segment: spot.segment,
            from: spot.offset.into(),
            extent,
            batch: last,
        }));
        for broken in torn.iter().chain(accepted) {
            let gone = Gone { segment: broken.segment, from: broken.from, extent: broken.to - broken.from, batch: broken.before.0 };
            if broken.after.is_none() { tails.push(gone) } else { voids.push(gone) }
        }
        for gone in voids.iter().chain(&tails) {
            self.write(gone.segment, gone.from, &vec![0; gone.extent as usize])?;
        }
        self.sync(voids.iter().chain(&tails).map(|gone| gone.segment))?;
        for gone in &voids {
            let body_bytes = (gone.extent as usize).saturating_sub(HEADER);
            let body_crc = crc32c::crc32c(&vec![0; body_bytes]);
            let header = Header { body_bytes: body_bytes as u32, body_crc, ..Header::own(What::Void, gone.batch) };
            self.write(gone.segment, gone.from, &header.encode(self.mark))?;
        }
        self.sync(voids.iter().map(|gone| gone.segment))?;
        if let Some(from) = tails.iter().filter(|gone| gone.segment == number).map(|gone| gone.from).min()
            && let Some(segment) = self.out.segments.get_mut(&number)
        {
            segment.end = from;
        }
        self.write_last_batch(number)
    }

    fn write_last_batch(&mut self, number: u32) -> Result<(), LogError> {
        let name = segment_name(number);
        let Some(segment) = self.out.segments.get(&number) else { return Ok(()) };
        let from = if self.last_start.segment == number { u64::from(self.last_start.offset) } else { segment.end };
        let mut bytes = read_range(&*segment.file, from, (segment.end - from) as usize).map_err(self.at(&name))?;
        let batch = self.before.0 + 1;
        let there = bytes.len();
        let room = segment.size.saturating_sub(from) as usize;
        push_leaf(&mut bytes, self.mark, batch, self.out.leaves + 1, &self.out.uncovered);
        let leaf = bytes.len() <= room;
        if !leaf {
            bytes.truncate(there);
        }
        // A batch of its own in any case: the last record before it may be a void now, and no batch's last.
        if !leaf && there + HEADER <= room {
            bytes.extend_from_slice(&Header::own(What::Void, batch).encode(self.mark));
        }
        let closed = bytes.len() > there;
        if closed {
            set_last(&mut bytes, there);
        }
        // The prelude belongs to the first batch; a torn one is made good here.
        let previous_end = self.out.segments.range(..number).next_back().filter(|(n, _)| **n + 1 == number).map_or(0, |(_, s)| s.end);
        let first = if from == PRELUDE as u64 && self.last_start.segment != number { batch } else { self.before.0 };
        let prelude = self.prelude(number)?.unwrap_or(Prelude { mark: self.mark, number, previous_end, leaves: 0, batch: first });
        self.write(number, 0, &prelude.encode())?;
        self.write(number, from, &bytes)?;
        self.sync([number].into_iter())?;
        if let Some(segment) = self.out.segments.get_mut(&number) {
            segment.end = from + bytes.len() as u64;
        }
        if leaf {
            self.out.leaves += 1;
            self.out.uncovered.clear();
        }
        if closed {
            self.before = (batch, true);
        }
        Ok(())
    }

    fn write(&self, segment: u32, offset: u64, bytes: &[u8]) -> Result<(), LogError> {
        let Some(found) = self.out.segments.get(&segment) else { return Ok(()) };
        found.file.write_at(bytes, offset).map_err(self.at(&segment_name(segment)))
    }

    fn sync(&self, segments: impl Iterator<Item = u32>) -> Result<(), LogError> {
        for number in segments.collect::<std::collections::BTreeSet<_>>() {
            if let Some(segment) = self.out.segments.get(&number) {
                segment.file.sync().map_err(self.at(&segment_name(number)))?;
            }
        }
        Ok(())
    }
}
