//! Images from archives, registries, Debian's tools and steps, and sandboxes made of them.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command as Program,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use sha2::{Digest, Sha256};
use skep_sandbox::{
    Action, Base, Boxed, Command, Config, Credentials, HOST, Image, ImageError, ImageRules, Input, Level, OnTimeout, OpenError, Platform,
    Policy, Profile, Reach, Recipe, RecipeStep, Rootfs, Sandboxes, Source, Spec, StoreError, Workshop,
};

use crate::boxed::{Bench, PROGRAM, run, sh};

const POLICY: Policy = Policy { timeout_ms: None, on_timeout: OnTimeout::Pause, auto_resume: true };

async fn open(bench: &Bench, rules: ImageRules) -> Sandboxes {
    let node = Sandboxes::open(Config { folder: bench.folder.path().join("node"), program: PROGRAM.into() }).await.unwrap().0;
    node.images().rule(rules);
    node
}

/// The node of a folder that an earlier one had until a moment ago.
async fn reopened(folder: &Path) -> (Sandboxes, skep_sandbox::Opened) {
    for _ in 0..100 {
        match Sandboxes::open(Config { folder: folder.to_owned(), program: PROGRAM.into() }).await {
            Err(OpenError::Store(StoreError::InUse(_))) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            other => return other.unwrap(),
        }
    }
    panic!("the earlier node does not end");
}

/// Registries on this machine only.
fn here() -> ImageRules {
    ImageRules { reach: Reach(Arc::new(|_, address| address.is_loopback())), ..ImageRules::default() }
}

async fn create(bench: &Bench, node: &Sandboxes, image: &str, profile: Profile) -> Boxed {
    node.create(bench.spec(profile), node.images().rootfs(image).unwrap(), POLICY).await.unwrap()
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// A program of the host and the libraries it is loaded with. `None`: this machine cannot say which.
fn with_libraries(program: &str) -> Option<Vec<PathBuf>> {
    let said = Program::new("ldd").arg(program).output().ok()?;
    let text = String::from_utf8(said.stdout).ok()?;
    let libraries = text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from);
    Some(std::iter::once(PathBuf::from(program)).chain(libraries).collect())
}

/// An archive of a layer, entry by entry.
#[derive(Default)]
struct Layer(Vec<(String, tar::EntryType, u32, Vec<u8>)>);

impl Layer {
    fn file(mut self, name: &str, mode: u32, content: &[u8]) -> Self {
        self.0.push((name.into(), tar::EntryType::Regular, mode, content.to_vec()));
        self
    }

    fn tar(&self) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, kind, mode, content) in &self.0 {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(*mode);
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, name, &content[..]).unwrap();
        }
        tar.into_inner().unwrap()
    }
}

/// An image with a shell and little else; in two layers, the upper of which takes a file away.
struct Small {
    layers: [Vec<u8>; 2],
    config: Vec<u8>,
}

impl Small {
    fn make() -> Option<Self> {
        let mut lower = Layer::default().file("etc/gone", 0o644, b"x").file("etc/motd", 0o644, b"lower\n");
        for program in ["/usr/bin/dash", "/usr/bin/cat", "/usr/bin/ls", "/usr/bin/id", "/usr/bin/grep", "/usr/bin/mkdir", "/usr/bin/chown"]
        {
            for path in with_libraries(program)? {
                let Ok(content) = fs::read(&path) else {
                    println!("passed over: this machine has no {}", path.display());
                    return None;
                };
                lower = lower.file(path.to_str()?.trim_start_matches('/'), 0o755, &content);
            }
        }
        let lower = lower.file("bin/sh", 0o755, &fs::read("/usr/bin/dash").unwrap());
        let upper = Layer::default().file("etc/.wh.gone", 0, b"").file("etc/motd", 0o644, b"upper\n").file("srv/own", 0o600, b"mine");
        let layers = [lower.tar(), upper.tar()];
        let diffs: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", hex(layer))).collect();
        let config = serde_json::json!({
            "architecture": "any", "os": "linux", "rootfs": { "type": "layers", "diff_ids": diffs },
            "config": { "Env": ["GREETING=hello", "PATH=/usr/bin:/bin"], "WorkingDir": "/srv", "User": "0", "Cmd": ["/bin/sh"] },
        });
        Some(Self { layers, config: serde_json::to_vec(&config).unwrap() })
    }

    /// As `docker save` writes it.
    fn saved(&self) -> Vec<u8> {
        let manifest = serde_json::json!([{ "Config": "c.json", "RepoTags": ["small:1"], "Layers": ["a/layer.tar", "b/layer.tar"] }]);
        Layer::default()
            .file("a/layer.tar", 0o644, &self.layers[0])
            .file("b/layer.tar", 0o644, &self.layers[1])
            .file("c.json", 0o644, &self.config)
            .file("manifest.json", 0o644, manifest.to_string().as_bytes())
            .tar()
    }

    /// Blobs by digest, and the digest of an index; the layers packed, each in its way.
    fn blobs(&self) -> (BTreeMap<String, Vec<u8>>, String) {
        let mut blobs = BTreeMap::new();
        let mut add = |bytes: Vec<u8>| {
            let (digest, size) = (format!("sha256:{}", hex(&bytes)), bytes.len());
            blobs.insert(digest.clone(), bytes);
            serde_json::json!({ "mediaType": "application/octet-stream", "digest": digest, "size": size })
        };
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&self.layers[0]).unwrap();
        let layers = [add(gzip.finish().unwrap()), add(zstd::encode_all(&self.layers[1][..], 1).unwrap())];
        let config = add(self.config.clone());
        let manifest = serde_json::json!({ "schemaVersion": 2, "config": config, "layers": layers });
        let mut manifest = add(manifest.to_string().into_bytes());
        manifest["platform"] = serde_json::json!({ "os": "linux", "architecture": Platform::default().architecture });
        let other = serde_json::json!({ "digest": format!("sha256:{}", "0".repeat(64)), "size": 1, "platform": { "os": "plan9", "architecture": "amd64" } });
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": [other, manifest] }).to_string().into_bytes();
        let digest = add(index)["digest"].as_str().unwrap().to_owned();
        (blobs, digest)
    }
}

async fn is_small(bench: &Bench, node: &Sandboxes, image: &Image) {
    assert_eq!((image.config.workdir.as_deref(), image.config.user.as_deref(), image.layers.len()), (Some("/srv"), Some("0"), 2));
    for profile in [Profile::Strict, Profile::Workstation] {
        let boxed = create(bench, node, &image.name, profile).await;
        let sandbox = boxed.sandbox().await.unwrap();
        let finished = run(&sandbox, image.config.command(&["/bin/sh", "-c", "echo $GREETING; cat /etc/motd; ls /etc; pwd"])).await;
        let said = String::from_utf8_lossy(&finished.stdout).into_owned();
        assert!(said.starts_with("hello\nupper\n") && said.ends_with("/srv\n"), "{said} {}", String::from_utf8_lossy(&finished.stderr));
        assert!(!said.contains("gone") && said.contains("passwd"), "{said}");
        let denied = run(&sandbox, Command::shell("cat /srv/own")).await;
        assert!(denied.stdout.is_empty(), "a file of root's was read by another");
        boxed.happen(Input::Remove).await.unwrap();
    }
}

#[tokio::test]
async fn a_saved_image_and_a_layout_become_the_same_layers() {
    let Some(bench) = Bench::set_up().await else { return };
    let Some(small) = Small::make() else { return };
    let node = open(&bench, ImageRules::default()).await;
    let file = bench.folder.path().join("image.tar");
    fs::write(&file, zstd::encode_all(&small.saved()[..], 1).unwrap()).unwrap();
    let source = Source::Archive { path: file.clone() };
    let image = node.images().make("saved", source.clone(), None).done().await.unwrap();
    is_small(&bench, &node, &image).await;

    let (blobs, digest) = small.blobs();
    let named = |digest: &str| format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"));
    let layout = blobs.iter().fold(Layer::default(), |tar, (digest, bytes)| tar.file(&named(digest), 0o644, bytes));
    let index = fs::File::create(&file).unwrap();
    let tar = layout.file("index.json", 0o644, &blobs[&digest]).file("oci-layout", 0o644, b"{}").tar();
    (&index).write_all(&tar).unwrap();
    let other = node.images().make("layout", source, None).done().await.unwrap();
    assert_eq!(other.layers, image.layers, "the same layers were unpacked twice");
    assert_eq!(node.images().list().len(), 2);

    assert!(node.remove_image("saved").await.unwrap());
    let boxed = create(&bench, &node, "layout", Profile::Strict).await;
    assert!(node.remove_image("layout").await.unwrap() && !node.remove_image("layout").await.unwrap());
    assert_eq!(fs::read_dir(bench.folder.path().join("node/layer")).unwrap().count(), 2, "layers of a sandbox were removed");
    assert_eq!(sh(&boxed.sandbox().await.unwrap(), "cat /etc/motd").await, "upper\n");
    boxed.happen(Input::Stop).await.unwrap();
    boxed.happen(Input::Resume).await.unwrap();
    boxed.happen(Input::Remove).await.unwrap();
    assert!(matches!(node.images().rootfs("layout"), Err(ImageError::NoSuch(_))));
}

#[tokio::test]
async fn an_image_of_many_layers_is_what_they_are_together() {
    let Some(bench) = Bench::set_up().await else { return };
    let node = open(&bench, ImageRules::default()).await;
    let mut layers: Vec<Vec<u8>> = (0..20)
        .map(|n: u32| Layer::default().file(&format!("all/{n}"), 0o644, b"x").file("last", 0o644, n.to_string().as_bytes()).tar())
        .collect();
    layers.insert(5, Layer::default().file("all/.wh.2", 0, b"").file("gone/a", 0o644, b"x").file("kept/a", 0o600, b"x").tar());
    layers.insert(7, Layer::default().file(".wh.gone", 0, b"").file("kept/.wh..wh..opq", 0, b"").file("kept/b", 0o644, b"x").tar());
    layers.insert(20, Layer::default().file("all/.wh.3", 0, b"").file("all/.wh.19", 0, b"").tar());
    let names: Vec<String> = (0..layers.len()).map(|n| format!("{n}.tar")).collect();
    let diffs: Vec<String> = layers.iter().map(|layer| format!("sha256:{}", hex(layer))).collect();
    let config = serde_json::json!({ "rootfs": { "diff_ids": diffs } }).to_string();
    let manifest = serde_json::json!([{ "Config": "c", "Layers": names }]).to_string();
    let saved = names.iter().zip(&layers).fold(Layer::default(), |tar, (name, layer)| tar.file(name, 0o644, layer));
    let file = bench.folder.path().join("image.tar");
    fs::write(&file, saved.file("c", 0o644, config.as_bytes()).file("manifest.json", 0o644, manifest.as_bytes()).tar()).unwrap();
    let image = node.images().make("many", Source::Archive { path: file }, None).done().await.unwrap();
    assert_eq!(image.layers.len(), 11);
    assert_eq!(fs::read_dir(bench.folder.path().join("node/layer")).unwrap().count(), 11, "something of the folding is left");
    let boxed = create(&bench, &node, "many", Profile::Strict).await;
    let sandbox = boxed.sandbox().await.unwrap();
    let entries = |folder: &'static str| {
        let sandbox = sandbox.clone();
        async move {
            let names = sandbox.list(folder, 1_000, 1).await.unwrap();
            names.into_iter().map(|entry| entry.path.rsplit('/').next().unwrap().to_owned()).collect::<std::collections::BTreeSet<_>>()
        }
    };
    let all = entries("/all").await;
    assert_eq!((all.len(), all.contains("2"), all.contains("3"), all.contains("19")), (18, false, false, true), "{all:?}");
    assert_eq!(entries("/kept").await.into_iter().collect::<Vec<_>>(), ["b"]);
    assert!(sandbox.stat("/gone", 1_000).await.is_err());
    assert_eq!(sandbox.read_all("/last", 1_000).await.unwrap(), b"19");
    boxed.happen(Input::Remove).await.unwrap();
}

#[tokio::test]
async fn what_is_not_what_its_digest_says_leaves_nothing() {
    let Some(bench) = Bench::set_up().await else { return };
    let Some(small) = Small::make() else { return };
    let node = open(&bench, ImageRules::default()).await;
    let file = bench.folder.path().join("image.tar");
    let forged =
        Small { layers: [small.layers[0].clone(), Layer::default().file("etc/motd", 0o644, b"forged").tar()], config: small.config };
    fs::write(&file, forged.saved()).unwrap();
    let making = node.images().make("forged", Source::Archive { path: file }, None);
    let error = making.done().await.unwrap_err();
    assert!(matches!(*error, ImageError::Digest { .. }), "{error}");
    assert_eq!(making.log(0).last().map(|line| line.level), Some(Level::Error));
    assert!(node.images().get("forged").is_none());
    let left = fs::read_dir(bench.folder.path().join("node/layer")).unwrap().flatten().map(|entry| entry.file_name()).collect::<Vec<_>>();
    assert!(left.len() == 1 && left[0].to_str().unwrap().len() == 71, "{left:?}");
}

/// A registry of a test's own: wants a token, redirects blobs, counts.
struct Registry {
    address: String,
    pulls: Arc<AtomicUsize>,
    /// What was wrong with what was asked.
    complaints: Arc<Mutex<Vec<String>>>,
}

impl Registry {
    fn start(blobs: BTreeMap<String, Vec<u8>>, index: String, redirect: Option<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (pulls, complaints) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let it = Self { address: address.clone(), pulls: Arc::clone(&pulls), complaints: Arc::clone(&complaints) };
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let asked = answer(socket, &address, &blobs, &index, redirect.as_deref(), &pulls);
                if let Some(complaint) = asked {
                    complaints.lock().unwrap().push(complaint);
                }
            }
        });
        it
    }
}

fn answer(
    mut socket: TcpStream,
    address: &str,
    blobs: &BTreeMap<String, Vec<u8>>,
    index: &str,
    redirect: Option<&str>,
    pulls: &AtomicUsize,
) -> Option<String> {
    let mut reader = BufReader::new(socket.try_clone().ok()?);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let path = line.split(' ').nth(1)?.to_owned();
    let mut proof = String::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        if header.trim().is_empty() {
            break;
        }
        if let Some(value) = header.to_lowercase().strip_prefix("authorization:") {
            proof = value.trim().to_owned();
        }
    }
    let mut say = |status: &str, headers: &str, body: &[u8]| {
        let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        let _ = socket.write_all(head.as_bytes()).and_then(|()| socket.write_all(body));
    };
    if path.starts_with("/token") {
        // "me:geheim"
        let known = proof == "basic bwu6z2vozwlt" && path.contains("scope=repository%3Asmall%3Apull") && path.contains("service=test");
        match known {
            true => say("200 OK", "", br#"{"token":"t0k3n"}"#),
            false => say("401 Unauthorized", "", b""),
        }
        return (!known).then(|| format!("{path} with {proof:?}"));
    }
    if let Some(digest) = path.strip_prefix("/elsewhere/") {
        say("200 OK", "", blobs.get(digest).map_or(b"", |blob| blob));
        return (!proof.is_empty()).then(|| format!("credentials went to where a redirect leads: {proof}"));
    }
    if proof != "bearer t0k3n" {
        say("401 Unauthorized", &format!("WWW-Authenticate: Bearer realm=\"http://{address}/token\",service=\"test\"\r\n"), b"");
        return None;
    }
    pulls.fetch_add(1, Ordering::Relaxed);
    let digest = path.rsplit('/').next()?;
    match (path.contains("/blobs/"), redirect) {
        (true, Some(to)) => say("307 Temporary Redirect", &format!("Location: {to}\r\n"), b""),
        (true, None) => say("307 Temporary Redirect", &format!("Location: /elsewhere/{digest}\r\n"), b""),
        (false, _) => match blobs.get(if digest == "1" { index } else { digest }) {
            Some(document) => say("200 OK", "", document),
            None => say("404 Not Found", "", b""),
        },
    }
    None
}

fn from(registry: &Registry) -> Source {
    Source::Registry { reference: format!("{}/small:1", registry.address), platform: Platform::default() }
}

fn me() -> Option<Credentials> {
    Some(Credentials { user: "me".into(), password: "geheim".into() })
}

#[tokio::test]
async fn an_image_is_pulled_once_for_all_who_ask() {
    let Some(bench) = Bench::set_up().await else { return };
    let Some(small) = Small::make() else { return };
    let (blobs, index) = small.blobs();
    let registry = Registry::start(blobs, index, None);
    let node = open(&bench, here()).await;
    let all: Vec<_> = (0..8).map(|_| node.images().make("small", from(&registry), me())).collect();
    let other = node.images().make("small", Source::Host, None).done().await.unwrap_err();
    assert!(matches!(*other, ImageError::Busy(_)), "{other}");
    let mut images = Vec::new();
    for making in &all {
        images.push(making.done().await.unwrap());
    }
    assert!(images.windows(2).all(|two| two[0] == two[1]));
    assert_eq!(registry.pulls.load(Ordering::Relaxed), 5, "index, manifest, configuration, two layers");
    assert_eq!(*registry.complaints.lock().unwrap(), Vec::<String>::new());
    assert!(!all[0].log(0).is_empty());
    is_small(&bench, &node, &images[0]).await;
    let written = fs::read_to_string(bench.folder.path().join("node/image/small.json")).unwrap();
    assert!(!written.contains("geheim") && !all[0].log(0).iter().any(|line| line.text.contains("geheim")));
    node.images().make("small", from(&registry), me()).done().await.unwrap();
    assert_eq!(registry.pulls.load(Ordering::Relaxed), 8, "layers that are here are not asked for again");
}

#[tokio::test]
async fn a_registry_leads_nowhere_that_may_not_be_reached() {
    let Some(bench) = Bench::set_up().await else { return };
    let Some(small) = Small::make() else { return };
    let (blobs, index) = small.blobs();
    let node = open(&bench, ImageRules::default()).await;
    let registry = Registry::start(blobs.clone(), index.clone(), None);
    let error = node.images().make("x", from(&registry), me()).done().await.unwrap_err();
    assert!(matches!(&*error, ImageError::Unreachable(_, why) if why.contains("may be reached")), "{error}");
    node.images().rule(here());
    for to in
        ["http://169.254.169.254/latest/", "https://169.254.169.254/", "file:///etc/passwd", "http://example.com/", "ftp://127.0.0.1/", ""]
    {
        let registry = Registry::start(blobs.clone(), index.clone(), Some(to.into()));
        let error = node.images().make("x", from(&registry), me()).done().await.unwrap_err();
        assert!(matches!(*error, ImageError::Unreachable(..) | ImageError::Document(..)), "{to}: {error}");
    }
    let mut forged = blobs.clone();
    forged.insert(index.clone(), blobs.values().next().unwrap().clone());
    let registry = Registry::start(forged, index.clone(), None);
    let pinned = Source::Registry { reference: format!("{}/small@{index}", registry.address), platform: Platform::default() };
    let error = node.images().make("x", pinned, me()).done().await.unwrap_err();
    assert!(matches!(*error, ImageError::Digest { .. }), "{error}");
    let error = node.images().make("x", from(&registry), None).done().await.unwrap_err();
    assert!(matches!(*error, ImageError::Registry { status: 401, .. }), "{error}");
}

/// Sandboxes of their own for steps, without a network.
fn workshop(node: &Sandboxes, spec: Spec) -> Workshop {
    let node = node.clone();
    Arc::new(move |rootfs: Rootfs| {
        let mut random = [0; 13];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty()).unwrap();
        let (node, spec) = (node.clone(), Spec { id: skep_id::SandboxId::from_random(random), ..spec.clone() });
        Box::pin(async move { node.create(spec, rootfs, POLICY).await })
    })
}

fn step(action: Action) -> RecipeStep {
    RecipeStep { action, force: false }
}

fn line(line: &str, user: Option<&str>) -> RecipeStep {
    step(Action::Run { line: line.into(), user: user.map(str::to_owned) })
}

fn packed(files: &[(&str, &str)]) -> Vec<u8> {
    let tar = files.iter().fold(Layer::default(), |tar, (name, text)| tar.file(name, 0o644, text.as_bytes())).tar();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&tar).unwrap();
    gzip.finish().unwrap()
}

#[tokio::test]
async fn a_template_is_made_by_steps_and_made_again_from_what_is_there() {
    let Some(bench) = Bench::set_up().await else { return };
    let node = open(&bench, ImageRules::default()).await;
    let shop = workshop(&node, bench.spec(Profile::Workstation));
    let files = bench.folder.path().join("files.tar.gz");
    fs::write(&files, packed(&[("app/main.txt", "main"), ("app/sub/more.txt", "more"), ("single", "one")])).unwrap();
    let copy = |source: &str, target: &str, mode| {
        step(Action::Copy {
            files: files.clone(),
            digest: hex(&fs::read(&files).unwrap()),
            source: source.into(),
            target: target.into(),
            user: None,
            mode,
        })
    };
    let recipe = |last: &str| Recipe {
        from: Base::Image(HOST.into()),
        steps: vec![
            step(Action::Env(BTreeMap::from([("STAGE".into(), "built".into())]))),
            line("echo tool > /usr/local/bin/tool; rm /usr/bin/yes; echo to the log; echo warned >&2", Some("root")),
            step(Action::Workdir("/work".into())),
            copy("app", "/work/app", None),
            copy("single", "named", Some(0o600)),
            line(last, None),
        ],
        start: Some("echo started > /tmp/started; exec sleep 60".into()),
        ready: Some("[ -e /tmp/started ]".into()),
        force: false,
    };
    let making = node.build("mine", recipe("echo $STAGE-$(id -un)-$(pwd) > said"), Arc::clone(&shop));
    let image = making.done().await.unwrap_or_else(|error| panic!("{error}: {:?}", making.log(0)));
    let log = making.log(0);
    let said = |text: &str| log.iter().find(|line| line.text == text).unwrap_or_else(|| panic!("{text}: {log:?}"));
    assert_eq!((said("to the log").level, said("to the log").step, said("warned").level), (Level::Info, Some(2), Level::Warn));
    assert!(node.list().is_empty(), "a step's sandbox is left");

    for profile in [Profile::Strict, Profile::Workstation] {
        let boxed = create(&bench, &node, "mine", profile).await;
        let sandbox = boxed.sandbox().await.unwrap();
        let shown = "cat /work/said /usr/local/bin/tool app/main.txt app/sub/more.txt named; stat -c '%U %a' named; ls /usr/bin/yes 2>&1 | grep -c such";
        let finished = run(&sandbox, image.config.command(&["/bin/sh", "-c", shown])).await;
        let text = String::from_utf8_lossy(&finished.stdout).into_owned();
        assert_eq!(text, "built-user-/work\ntool\nmainmoreoneuser 600\n1\n", "{}", String::from_utf8_lossy(&finished.stderr));
        let mut started = image.config.begin(&sandbox, std::time::Duration::from_secs(20)).await.unwrap().unwrap();
        assert_eq!(sh(&sandbox, "cat /tmp/started").await, "started\n");
        started.stdin = None;
        boxed.happen(Input::Remove).await.unwrap();
    }
    assert!(Path::new("/usr/bin/yes").exists() && !Path::new("/usr/local/bin/tool").exists(), "the host's programs were changed");

    let again = node.build("again", recipe("echo $STAGE-$(id -un)-$(pwd) > said"), Arc::clone(&shop));
    assert_eq!(again.done().await.unwrap().layers, image.layers);
    assert!(again.log(0).iter().filter(|line| line.text == "is here already").count() >= 4);
    let layers = bench.folder.path().join("node/layer");
    for name in ["step-left", "sha256-left", "somebody-else-s"] {
        fs::create_dir(layers.join(name)).unwrap();
    }
    let failed = node.build("failed", recipe("echo last words; exit 3"), shop);
    let error = failed.done().await.unwrap_err();
    assert!(matches!(&*error, ImageError::Step { step: 6, why } if why.contains("code 3")), "{error}");
    assert!(failed.log(0).iter().any(|line| line.text == "last words") && node.images().get("failed").is_none() && node.list().is_empty());
    drop((making, again, failed, node));
    let (node, opened) = reopened(&bench.folder.path().join("node")).await;
    let left: Vec<String> = fs::read_dir(&layers).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!((opened.leaks, left.len()), (2, image.layers.len() + 1), "{left:?}");
    assert!(left.iter().all(|name| name == "somebody-else-s" || image.layers.contains(name)), "{left:?}");
    assert!(node.images().rootfs("mine").is_ok());
}

#[tokio::test]
async fn a_template_over_somebody_s_image_knows_the_ordinary_user() {
    let Some(bench) = Bench::set_up().await else { return };
    let Some(small) = Small::make() else { return };
    let node = open(&bench, ImageRules::default()).await;
    let file = bench.folder.path().join("image.tar");
    fs::write(&file, small.saved()).unwrap();
    let recipe = Recipe {
        from: Base::Source(Source::Archive { path: file }, None),
        steps: vec![step(Action::User("user".into())), line("id > /home/user/who", None)],
        start: None,
        ready: None,
        force: false,
    };
    let shop = workshop(&node, bench.spec(Profile::Workstation));
    let making = node.build("over", recipe, shop);
    let image = making.done().await.unwrap_or_else(|error| panic!("{error}: {:?}", making.log(0)));
    let boxed = create(&bench, &node, &image.name, Profile::Strict).await;
    let who = sh(&boxed.sandbox().await.unwrap(), "cat /home/user/who").await;
    assert!(who.starts_with("uid=1000(user) gid=1000(user)"), "{who}");
    boxed.happen(Input::Remove).await.unwrap();
}

#[tokio::test]
async fn base_has_what_agents_count_on() {
    let Some(bench) = Bench::set_up().await else { return };
    for program in ["bash", "git", "curl", "python3", "node", "npm"] {
        if !["/usr/bin", "/usr/local/bin", "/bin"].iter().any(|folder| Path::new(folder).join(program).exists()) {
            return println!("passed over: this machine has no {program}, and a test installs nothing");
        }
    }
    let node = open(&bench, ImageRules::default()).await;
    let shop = workshop(&node, bench.spec(Profile::Workstation));
    let making = node.build("base", skep_sandbox::base(Base::Image(HOST.into())), shop);
    making.done().await.unwrap_or_else(|error| panic!("{error}: {:?}", making.log(0)));
    let boxed = create(&bench, &node, "base", Profile::Strict).await;
    let said =
        sh(&boxed.sandbox().await.unwrap(), "python -c 'print(6*7)'; node -p 6*7; bash -c 'echo $((6*7))'; git --version | wc -l").await;
    assert_eq!(said, "42\n42\n42\n1\n");
    boxed.happen(Input::Remove).await.unwrap();
}

/// Something called like Debian's tool: the tool itself needs a mirror.
fn tool(folder: &Path, name: &str, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(folder.join(name), script).unwrap();
    fs::set_permissions(folder.join(name), fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
async fn a_debian_tree_is_what_its_tools_make() {
    let Some(bench) = Bench::set_up().await else { return };
    let folder = bench.folder.path().join("tools");
    fs::create_dir(&folder).unwrap();
    let node = open(&bench, ImageRules { programs: vec![folder.clone()], ..ImageRules::default() }).await;
    let debian = |suite: &str| Source::Debian {
        suite: suite.into(),
        mirror: Some("http://mirror.test/debian".into()),
        packages: vec!["git".into()],
    };
    let error = node.images().make("debian", debian("bookworm"), None).done().await.unwrap_err();
    assert!(error.to_string().contains("neither is installed"), "{error}");

    let by_folder = "#!/bin/sh\nset -e\n[ \"$1 $2 $3 $5\" = '--variant=minbase --include=git bookworm http://mirror.test/debian' ]\n\
        echo I: Retrieving; mkdir -p $4/etc $4/dev $4/var/cache/apt/archives; echo 12.0 > $4/etc/debian_version\n\
        mknod $4/dev/null c 1 3; echo large > $4/var/cache/apt/archives/x.deb; [ -z \"$SECRET\" ]\n";
    tool(&folder, "debootstrap", by_folder);
    let making = node.images().make("debian", debian("bookworm"), None);
    let image = making.done().await.unwrap_or_else(|error| panic!("{error}: {:?}", making.log(0)));
    assert!(making.log(0).iter().any(|line| line.text == "I: Retrieving"));
    let layer = bench.folder.path().join("node/layer").join(&image.layers[0]);
    assert_eq!(fs::read_to_string(layer.join("etc/debian_version")).unwrap(), "12.0\n");
    assert!(!layer.join("dev/null").exists() && !layer.join("var/cache/apt/archives").exists() && layer.join("proc").is_dir());

    tool(&folder, "mmdebstrap", "#!/bin/sh\necho E: no such suite >&2; exit 7\n");
    let making = node.images().make("trixie", debian("trixie"), None);
    let error = making.done().await.unwrap_err();
    assert!(matches!(&*error, ImageError::Tool(why) if why.contains('7')), "{error}");
    assert!(making.log(0).iter().any(|line| line.text == "E: no such suite"));
    let left = fs::read_dir(bench.folder.path().join("node/layer")).unwrap().count();
    assert_eq!(left, 1, "a failed tool left something");
}

/// Minutes, and a mirror: `make soak`.
#[tokio::test]
#[ignore = "fetches a Debian"]
async fn a_debian_of_debian_s_own_runs() {
    let Some(bench) = Bench::set_up().await else { return };
    let node = open(&bench, ImageRules::default()).await;
    let source = Source::Debian { suite: "bookworm".into(), mirror: None, packages: vec!["git".into()] };
    let making = node.images().make("debian", source, None);
    if let Err(error) = making.done().await {
        return println!("passed over: {error}: {:?}", making.log(0).last());
    }
    let boxed = create(&bench, &node, "debian", Profile::Workstation).await;
    assert!(sh(&boxed.sandbox().await.unwrap(), "cat /etc/debian_version; git --version").await.starts_with("12"));
    boxed.happen(Input::Remove).await.unwrap();
}

#[tokio::test]
async fn a_hostile_image_s_folders_are_no_places_for_mounts() {
    let Some(bench) = Bench::set_up().await else { return };
    let node = open(&bench, ImageRules::default()).await;
    let canary = bench.folder.path().join("canary");
    fs::create_dir(&canary).unwrap();
    for (place, target) in [("proc", "/etc"), ("dev", canary.to_str().unwrap()), ("run", "../../../.."), ("proc", "sys")] {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, place, target).unwrap();
        let layer = tar.into_inner().unwrap();
        let config = serde_json::json!({ "rootfs": { "diff_ids": [format!("sha256:{}", hex(&layer))] } }).to_string();
        let manifest = br#"[{"Config":"c","Layers":["l"]}]"#;
        let saved =
            Layer::default().file("l", 0o644, &layer).file("c", 0o644, config.as_bytes()).file("manifest.json", 0o644, manifest).tar();
        let file = bench.folder.path().join("hostile.tar");
        fs::write(&file, saved).unwrap();
        node.images().make("hostile", Source::Archive { path: file }, None).done().await.unwrap();
        for profile in [Profile::Strict, Profile::Workstation] {
            let started = node.create(bench.spec(profile), node.images().rootfs("hostile").unwrap(), POLICY).await;
            assert!(started.is_err(), "a mount was put beyond the link {place} -> {target}");
        }
    }
    assert!(node.list().is_empty() && fs::read_dir(&canary).unwrap().count() == 0);
}

#[tokio::test]
async fn the_registry_s_socket_is_read_to_its_end() {
    // The test's own server must not be what lets the others pass.
    let registry = Registry::start(BTreeMap::new(), "none".into(), None);
    let mut socket = TcpStream::connect(&registry.address).unwrap();
    socket.write_all(b"GET /v2/small/manifests/1 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("realm="), "{answer}");
}
