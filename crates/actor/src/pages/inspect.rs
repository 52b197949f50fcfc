//! Looks for damage in one actor's files, and repairs what can be.
//!
//! Driven by `skep doctor`. Everything is read and checked. A page of a base can be had again if a chapter changed it: its content before, and the
//! lines that the records since then wrote.

use std::{path::PathBuf, sync::Arc};

use skep_id::ActorId;

use super::{
    Page, PagesError, ZERO,
    base::{Base, Header},
    chapter::{self, Chapter},
    commit::decode_commit,
    library::Library,
    shelf::{CHECKPOINT, Shelf, place_in},
};
use crate::record::{Epoch, Record, RecordKind, Seq};

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// In which file.
    pub file: PathBuf,
    /// Where, in bytes.
    pub offset: u64,
    /// What.
    pub what: String,
    /// Whether it is right again.
    pub repaired: bool,
    /// What cannot be had any more; `None`: nothing, or nothing once it is repaired.
    pub lost: Option<String>,
}

impl Finding {
    fn of(error: &PagesError, lost: Option<String>) -> Self {
        let (file, offset) = match error {
            PagesError::File(file, _) | PagesError::Ahead { file, .. } => (file.clone(), 0),
            PagesError::Damaged { file, offset, .. } => (file.clone(), *offset),
            _ => (PathBuf::new(), 0),
        };
        Self { file, offset, what: error.to_string(), repaired: false, lost }
    }
}

/// Chapters that are of no use. One whose places other chapters have was left by a fold that failed.
fn strays(shelf: &Shelf) -> Vec<Finding> {
    let state = shelf.state.read();
    let first = state.first();
    let lost = state.strays.iter().filter(|stray| stray.to <= first);
    let finding = |stray: &Arc<Chapter>| {
        let error = PagesError::damaged(&stray.path, 0, "the chapter that should follow it is missing");
        Finding::of(&error, Some(format!("the past up to place {first}")))
    };
    lost.map(finding).collect()
}

impl Library {
    /// What is wrong with an actor's files; repaired where that is possible, if so asked. Empty: all is well.
    pub fn inspect(self: &Arc<Self>, actor: ActorId, repair: bool) -> Vec<Finding> {
        let (shelf, mut findings) = match self.shelf(actor) {
            Ok(shelf) => (shelf, Vec::new()),
            Err(e) => {
                if let (PagesError::Ahead { place, head, .. }, true) = (&e, repair)
                    && self.lower(actor, *head).is_ok()
                {
                    let lost = format!("history and heap; the database is as of place {place}, which is called {head} now");
                    return vec![Finding { repaired: true, ..Finding::of(&e, Some(lost)) }];
                }
                let headless = matches!(&e, PagesError::Damaged { file, offset: 0, .. } if *file == place_in(&self.bases, actor, ".base"));
                let rebuilt = if repair && headless {
                    self.rebuild_header(actor).and_then(|()| self.shelf(actor))
                } else {
                    Err(PagesError::Gone(actor))
                };
                match rebuilt {
                    Ok(shelf) => (shelf, vec![Finding { repaired: true, ..Finding::of(&e, None) }]),
                    Err(_) => return vec![Finding::of(&e, Some("what the actor was, as far as the log does not have it".to_owned()))],
                }
            }
        };
        let _changing = shelf.changing.lock();
        if let Err(e) = shelf.undo_unfinished(self) {
            findings.push(Finding::of(&e, None));
        }
        findings.extend(self.inspect_base(&shelf, repair));
        let chapters = shelf.state.read().chapters.clone();
        for chapter in chapters {
            findings.extend(chapter.verify(&*self.disk).into_iter().map(|(e, lost)| Finding::of(&e, Some(lost))));
        }
        findings.extend(strays(&shelf));
        if let Err(e) = shelf.checkpoint(self) {
            findings.push(Finding::of(&e, Some("the heap of the last checkpoint before the history; the database is whole".to_owned())));
        }
        match self.open_at(&shelf, None) {
            Ok(_) | Err(PagesError::Gone(_)) => {}
            Err(e) => findings.push(Finding::of(&e, Some("the database as of the last record".to_owned()))),
        }
        findings
    }

    /// Makes a base that is further than a log, which has lost its end, as of that log's end. The history does not lead there any more, and no heap is of
    /// that database.
    fn lower(&self, actor: ActorId, head: Seq) -> Result<(), PagesError> {
        let (path, history) = (place_in(&self.bases, actor, ".base"), place_in(&self.histories, actor, ""));
        let Some(mut base) = Base::open(&*self.disk, &path, actor)? else { return Err(PagesError::Gone(actor)) };
        let mut names = self.disk.names(&history).map_err(PagesError::file(&history))?;
        names.retain(|name| name == CHECKPOINT || chapter::Name::parse(name).is_some_and(|chapter| chapter.to > head));
        for name in &names {
            self.disk.remove(&history.join(name)).map_err(PagesError::file(&history))?;
        }
        if !names.is_empty() {
            self.disk.sync_dir(&history).map_err(PagesError::file(&history))?;
        }
        base.write_header(Header { place: head, head, ..base.header })?;
        base.sync()
    }

    /// Writes both headers of a base anew, from what its last chapter says. As long as the log has what that chapter has, the base is said to be as of
    /// where it begins: loading it then puts the pages back.
    fn rebuild_header(&self, actor: ActorId) -> Result<(), PagesError> {
        let (path, history) = (place_in(&self.bases, actor, ".base"), place_in(&self.histories, actor, ""));
        let names = self.disk.names(&history).map_err(PagesError::file(&history))?;
        let last = names.iter().filter_map(|name| Some((name, chapter::Name::parse(name)?))).max_by_key(|(_, name)| name.to);
        let (file, name) = last.ok_or(PagesError::Gone(actor))?;
        let (chapter, log) = (Chapter::new(history.join(file), actor, name), self.log.head(actor));
        let index = chapter.index(&*self.disk)?;
        let (place, time_ms, count) = if log.first <= chapter.from.next() {
            (chapter.from, index.first().time_ms, index.first().count)
        } else {
            (chapter.to, chapter.time_ms, index.count_after)
        };
        let mut epoch = Epoch(0);
        chapter.each_block(&*self.disk, (Seq(place.0.saturating_sub(1)), place), |records| {
            epoch = records.last().map_or(epoch, |record| record.epoch);
            Ok(())
        })?;
        let header = Header { place, time_ms, count, extent: count, epoch, head: log.seq, ..Header::new() };
        if !self.disk.exists(&path).map_err(PagesError::file(&path))? {
            let folder = path.parent().unwrap_or(&self.bases);
            self.disk.make_dirs(folder).map_err(PagesError::file(folder))?;
            Base::create(&*self.disk, &path, actor)?;
            self.disk.sync_dir(folder).map_err(PagesError::file(folder))?;
        }
        let mut base = Base::headless(&*self.disk, &path, actor, header)?;
        base.write_header(header)?;
        base.sync()
    }

    fn inspect_base(&self, shelf: &Shelf, repair: bool) -> Vec<Finding> {
        // Opened anew: the copies of the header are to be seen as they are now.
        let mut base = match Base::open(&*self.disk, &shelf.path, shelf.actor) {
            Ok(None) => return Vec::new(),
            Ok(Some(base)) => base,
            Err(e) => return vec![Finding::of(&e, Some("the base".to_owned()))],
        };
        let mut findings = Vec::new();
        let faults = base.faults.clone();
        let repaired = repair && !faults.is_empty() && base.write_header(base.header).and_then(|()| base.sync()).is_ok();
        if repaired {
            shelf.state.write().base = Some(base.clone());
        }
        for (offset, why) in faults {
            findings.push(Finding { repaired, ..Finding::of(&PagesError::damaged(&shelf.path, offset, why), None) });
        }
        for page in 1..=base.header.count {
            if let Err(e) = base.read(page, &mut [0; super::PAGE]) {
                findings.push(self.repair_page(shelf, &base, page, &e, repair));
            }
        }
        findings
    }

    fn repair_page(&self, shelf: &Shelf, base: &Base, page: u32, error: &PagesError, repair: bool) -> Finding {
        let lost = || Some(format!("page {page} of {} as of place {}", base.header.count, base.header.place));
        match self.rebuild(shelf, page) {
            Ok(Some(content)) => {
                let repaired = repair && base.write(page, &content).and_then(|()| base.sync()).is_ok();
                Finding { repaired, ..Finding::of(error, None) }
            }
            Ok(None) | Err(_) => Finding::of(error, lost()),
        }
    }

    /// A page as of the base's place, from the last chapter that changed it.
    fn rebuild(&self, shelf: &Shelf, page: u32) -> Result<Option<Page>, PagesError> {
        let chapters = shelf.state.read().chapters.clone();
        for chapter in chapters.iter().rev() {
            if let Some(content) = self.replay(chapter, page)? {
                return Ok(Some(content));
            }
        }
        Ok(None)
    }

    /// A page as of a chapter's end, if the chapter knows: as it was where the last section begins that changes it, and what changed it since.
    fn replay(&self, chapter: &Chapter, page: u32) -> Result<Option<Page>, PagesError> {
        let (disk, mut content) = (&*self.disk, ZERO);
        for section in chapter.index(disk)?.sections.iter().rev() {
            let existed = page <= section.count;
            if existed && !chapter.page_in(disk, section.place, page, &mut content)? {
                continue;
            }
            chapter.each_block(disk, (section.place, chapter.to), |records| {
                records
                    .iter()
                    .filter(|record| record.kind == RecordKind::Commit)
                    .try_for_each(|record| write_again(record, page, &mut content))
            })?;
            return Ok(Some(content));
        }
        Ok(None)
    }
}

/// Does to a page what a commit did.
fn write_again(record: &Record, page: u32, content: &mut Page) -> Result<(), PagesError> {
    let decoded = decode_commit(&record.body);
    let (_, delta) = decoded.map_err(|why| PagesError::Record { actor: record.actor, seq: record.seq, why })?;
    if delta.count() < page {
        *content = ZERO;
    }
    delta.changes().filter(|change| change.page == page).for_each(|change| change.apply(content));
    Ok(())
}
