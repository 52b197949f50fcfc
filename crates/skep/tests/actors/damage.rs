//! Damaged files of actors, from the command line: `skep doctor` names file and place and whose they are, others are not affected, `--repair` brings back
//! what log and history have and says what is lost, and then the node starts.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::house::{APP, Up, app, config, skep};

/// What is done to a file, and its name.
type Damage<'a> = (&'a str, &'a dyn Fn(&Path));

/// Actors in the house that is damaged.
const ACTORS: usize = 3;

#[test]
fn doctor_looks_at_files_of_actors_when_nobody_uses_them() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let config = config(folder.path(), "");
    let up = Up::start(&data, &config);
    Up::deploy(&data, folder.path(), APP);
    up.read(0);
    let examine = || {
        let done = skep(&data, &["doctor", "--config", config.to_str().unwrap()]);
        String::from_utf8(done.stdout).unwrap()
    };
    assert!(examine().contains("actors: a node runs"), "{}", examine());
    drop(up);
    let said = examine();
    assert!(said.contains("the files of 1 actors are sound"), "{said}");
}

/// A folder with a stopped node's data: some of it in the log only, some in bases and histories.
struct Ruin {
    folder: tempfile::TempDir,
    config: PathBuf,
    /// Steps that were acknowledged, by actor.
    steps: [u64; ACTORS],
}

impl Ruin {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // Small enough that records go to the bases soon.
        let config = folder.path().join("skep.toml");
        fs::write(
            &config,
            "[node.log]\nsegment_bytes = 65536\nlog_bytes = 131072\ntrust_any_folder = true\n[node.actors]\nidle_ms = 200\n",
        )
        .unwrap();
        let data = folder.path().join("data");
        let up = Up::start(&data, &config);
        Up::deploy(&data, folder.path(), &app(1_500));
        let mut steps = [0; ACTORS];
        let mut add = |many: u64| {
            for (actor, steps) in steps.iter_mut().enumerate() {
                for _ in 0..many {
                    *steps += 1;
                    assert_eq!(up.call("POST", actor), (200, format!("{steps} {steps}")));
                }
            }
        };
        add(40);
        let (began, actors) = (Instant::now(), data.join("actors"));
        while files(&actors, ".base").len() < ACTORS || files(&actors, ".chapter").is_empty() {
            assert!(began.elapsed() < Duration::from_secs(20), "no records were brought to files");
            thread::sleep(Duration::from_millis(50));
            add(1);
        }
        add(4);
        drop(up);
        Self { folder, config, steps }
    }

    /// A copy of the data, damaged.
    fn damaged(&self, damage: impl FnOnce(&Path)) -> PathBuf {
        let data = self.folder.path().join("work");
        let _ = fs::remove_dir_all(&data);
        copy(&self.folder.path().join("data"), &data);
        damage(&data.join("actors"));
        data
    }

    /// What `doctor` says of actors: whether it finds nothing amiss, and what.
    fn doctor(&self, data: &Path, more: &[&str]) -> (bool, String) {
        let done = skep(data, &[&["doctor", "--config", self.config.to_str().unwrap()], more].concat());
        let said = String::from_utf8(done.stdout).unwrap();
        let about: Vec<_> = said.lines().filter(|line| line.contains(" actors: ")).collect();
        (about.iter().all(|line| line.starts_with("ok")), about.join("\n"))
    }

    fn up(&self, data: &Path) -> Result<Up, String> {
        Up::try_start(data, &self.config)
    }

    /// Every actor answers with a row of steps without gaps, and takes another; which of them have all that was acknowledged.
    fn intact(&self, up: &Up) -> [bool; ACTORS] {
        std::array::from_fn(|actor| {
            let (n, count) = up.read(actor);
            assert_eq!(n, count, "actor {actor} has gaps");
            assert_eq!(up.call("POST", actor), (200, format!("{} {}", n + 1, n + 1)));
            n == self.steps[actor]
        })
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// All files below a folder whose names end so, in order.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path(), end));
        } else if entry.file_name().to_str().unwrap().ends_with(end) {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 4;
    fs::write(file, bytes).unwrap();
}

fn cut(file: &Path, to: u64) {
    File::options().write(true).open(file).unwrap().set_len(to).unwrap();
}

/// Where what was written to a segment ends.
fn written(segment: &Path) -> usize {
    fs::read(segment).unwrap().iter().rposition(|byte| *byte != 0).unwrap()
}

#[test]
fn a_damaged_base_is_made_whole_from_its_history() {
    let ruin = Ruin::new();
    let base = |actors: &Path| files(actors, ".base")[0].clone();
    let damages: [Damage<'_>; 5] = [
        ("byte 45128", &|actors| flip(&base(actors), 45_128 + 900)),
        ("byte 0", &|actors| flip(&base(actors), 20)),
        ("byte 28712", &|actors| cut(&base(actors), 30_000)),
        ("byte 0", &|actors| cut(&base(actors), 0)),
        ("byte 0", &|actors| fs::remove_file(base(actors)).unwrap()),
    ];
    for (n, (place, damage)) in damages.into_iter().enumerate() {
        let data = ruin.damaged(damage);
        let name = base_name(&ruin);
        let (sound, said) = ruin.doctor(&data, &[]);
        assert!(!sound && said.contains(&name) && said.contains(place), "{n}: file and place are named: {said}");
        let up = ruin.up(&data).unwrap();
        let well = (0..ACTORS).filter(|actor| up.call("GET", *actor) == (200, format!("{0} {0}", ruin.steps[*actor]))).count();
        // One copy of the header is enough to go on with, so is a base that is not read.
        assert!(well >= ACTORS - 1, "{n}: others are not affected");
        drop(up);
        let (sound, said) = ruin.doctor(&data, &["--repair"]);
        assert!(sound && said.contains("repaired") && !said.contains("lost"), "{n}: {said}");
        let (sound, said) = ruin.doctor(&data, &[]);
        assert!(sound && said.contains("are sound"), "{n}: {said}");
        assert_eq!(ruin.intact(&ruin.up(&data).unwrap()), [true; ACTORS], "{n}");
    }
}

fn base_name(ruin: &Ruin) -> String {
    let base = files(&ruin.folder.path().join("data"), ".base")[0].clone();
    base.file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_damaged_history_loses_the_past_and_nothing_else() {
    let ruin = Ruin::new();
    let chapter = |actors: &Path| files(actors, ".chapter")[0].clone();
    let half = |actors: &Path| fs::metadata(chapter(actors)).unwrap().len() / 2;
    let damages: [&dyn Fn(&Path); 2] =
        [&|actors| flip(&chapter(actors), half(actors) as usize), &|actors| cut(&chapter(actors), half(actors))];
    for (n, damage) in damages.into_iter().enumerate() {
        let data = ruin.damaged(damage);
        for repair in [&[][..], &["--repair"]] {
            let (sound, said) = ruin.doctor(&data, repair);
            assert!(!sound && said.contains(".chapter: damaged at byte ") && said.contains("lost: "), "{n}: {said}");
        }
        assert_eq!(ruin.intact(&ruin.up(&data).unwrap()), [true; ACTORS], "{n}");
    }
}

#[test]
fn a_damaged_log_takes_from_those_whose_records_stood_there() {
    let ruin = Ruin::new();
    let newest = |actors: &Path| files(&actors.join("log"), ".log").pop().unwrap();
    // One flipped bit in a record hurts its actor. Not everything there is a record that is needed.
    let (data, said) = (1_000..20_000)
        .step_by(1_500)
        .find_map(|back| {
            let data = ruin.damaged(|actors| flip(&newest(actors), written(&newest(actors)) - back));
            let (sound, said) = ruin.doctor(&data, &[]);
            (!sound).then_some((data, said))
        })
        .unwrap();
    assert!(said.contains(".log at byte ") && said.contains("is lost"), "{said}");
    let up = ruin.up(&data).unwrap();
    let well = (0..ACTORS).filter(|actor| up.call("GET", *actor).0 == 200).count();
    assert_eq!(well, ACTORS - 1, "others are not affected");
    drop(up);
    let (sound, said) = ruin.doctor(&data, &["--repair"]);
    assert!(
        sound && said.contains("repaired: the actor goes on from record ") && said.contains("what it had after that is lost"),
        "{said}"
    );
    assert!(ruin.doctor(&data, &[]).0);
    let intact = ruin.intact(&ruin.up(&data).unwrap());
    assert_eq!(intact.iter().filter(|whole| **whole).count(), ACTORS - 1);

    // A segment that ends early, or heads that do or are gone: whose records it had may not be known. Then nothing starts before losses are accepted.
    let damages: [&dyn Fn(&Path); 3] = [&|actors| cut(&newest(actors), 700), &|actors| flip(&actors.join("log/heads"), 70), &|actors| {
        fs::remove_file(actors.join("log/heads")).unwrap()
    }];
    for (n, damage) in damages.into_iter().enumerate() {
        let data = ruin.damaged(damage);
        let (sound, said) = ruin.doctor(&data, &[]);
        assert!(!sound && said.contains("/log/") && said.contains("at byte ") && said.contains("--repair"), "{n}: {said}");
        if let Err(said) = ruin.up(&data) {
            assert!(said.contains("damaged at byte") && said.contains("skep doctor --repair"), "{n}: {said}");
        }
        let (_, said) = ruin.doctor(&data, &["--repair"]);
        assert!(said.contains("/log/"), "{n}: {said}");
        let (sound, said) = ruin.doctor(&data, &[]);
        assert!(sound, "{n}: {said}");
        ruin.intact(&ruin.up(&data).unwrap());
    }
}

#[test]
fn a_damaged_directory_is_made_anew_with_names_and_alarms() {
    let ruin = Ruin::new();
    let directory = |actors: &Path| actors.join("directory.sqlite");
    // Who closes it brings everything into the one file.
    assert!(ruin.doctor(&ruin.folder.path().join("data"), &[]).0);
    let damages: [&dyn Fn(&Path); 4] = [
        &|actors| flip(&directory(actors), 3),
        &|actors| cut(&directory(actors), 5_000),
        &|actors| {
            let mut bytes = fs::read(directory(actors)).unwrap();
            bytes[4_096..].fill(0xA5);
            fs::write(directory(actors), bytes).unwrap();
        },
        &|actors| fs::remove_file(directory(actors)).unwrap(),
    ];
    for (n, damage) in damages.into_iter().enumerate() {
        let data = ruin.damaged(damage);
        if directory(&data.join("actors")).exists() {
            let (sound, said) = ruin.doctor(&data, &[]);
            assert!(!sound && said.contains("directory") && said.contains("--repair"), "{n}: {said}");
            if let Err(said) = ruin.up(&data) {
                assert!(said.contains("directory.sqlite") && said.contains("skep doctor --repair"), "{n}: {said}");
            }
            let (_, said) = ruin.doctor(&data, &["--repair"]);
            assert!(said.contains("made anew"), "{n}: {said}");
            let (sound, said) = ruin.doctor(&data, &[]);
            assert!(sound, "{n}: {said}");
        }
        let up = ruin.up(&data).unwrap();
        let began = Instant::now();
        let listed = || String::from_utf8(skep(&data, &["actors", "ls"]).stdout).unwrap();
        while (0..ACTORS).any(|actor| !listed().contains(&format!("app/Counter/a{actor}"))) {
            assert!(began.elapsed() < Duration::from_secs(10), "{n}: {}", listed());
        }
        assert_eq!(ruin.intact(&up), [true; ACTORS], "{n}");
    }
}
