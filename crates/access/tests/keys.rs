//! Keys through their front door: what works, and everything that must not.

#![expect(clippy::unwrap_used, reason = "a test ends at what it does not expect")]

use skep_access::{KeyError, Keys, NewKey, Scope};

fn keys() -> (tempfile::TempDir, Keys) {
    let folder = tempfile::tempdir().unwrap();
    let keys = Keys::open(&folder.path().join("access.sqlite")).unwrap();
    (folder, keys)
}

fn new(scopes: &[Scope], expires_at: Option<i64>) -> NewKey {
    NewKey { label: "test".to_owned(), scopes: scopes.iter().copied().collect(), expires_at }
}

#[test]
fn a_good_token_becomes_its_principal() {
    let (_folder, keys) = keys();
    let (key, token) = keys.create(&new(&[Scope::Deploy, Scope::Read], None), 1_000).unwrap();
    let principal = keys.authenticate(&token.reveal(), 2_000).unwrap();
    assert_eq!(principal.key, key.id);
    assert!(principal.scopes.allow(Scope::Deploy) && principal.scopes.allow(Scope::Read));
    assert!(!principal.scopes.allow(Scope::Execute) && !principal.scopes.allow(Scope::Admin));
    assert_eq!(keys.list().unwrap()[0].last_used_at, Some(2_000));
}

#[test]
fn admin_may_everything() {
    let (_folder, keys) = keys();
    assert!(!keys.has_admin(0).unwrap());
    let (_, token) = keys.create(&new(&[Scope::Admin], None), 0).unwrap();
    let principal = keys.authenticate(&token.reveal(), 1).unwrap();
    assert!([Scope::Admin, Scope::Deploy, Scope::Execute, Scope::Read].into_iter().all(|s| principal.scopes.allow(s)));
    assert!(keys.has_admin(1).unwrap());
}

#[test]
fn refuses_what_is_no_token_of_ours() {
    let (_folder, keys) = keys();
    let (_, token) = keys.create(&new(&[Scope::Admin], None), 0).unwrap();
    let good = token.reveal();
    let flipped = format!("{}{}", &good[..good.len() - 1], if good.ends_with('0') { '1' } else { '0' });
    let (_, other) = keys.create(&new(&[Scope::Admin], None), 0).unwrap();
    let crossed = format!("skep_{}_{}", token.id(), other.reveal().rsplit('_').next().unwrap());
    let long = format!("{good}0");
    let nul = format!("{good}\0");
    let upper = good.to_uppercase();
    let bad = ["", "skep_", "skep__", "Bearer x", &flipped, &crossed, &long, &nul, &upper, &good[5..], "skep_' OR 1=1 --_x"];
    for text in bad {
        assert!(matches!(keys.authenticate(text, 1), Err(KeyError::Denied)), "{text}");
    }
}

#[test]
fn expiry_and_revocation_end_a_key() {
    let (folder, keys) = keys();
    let (_, short) = keys.create(&new(&[Scope::Read], Some(100)), 0).unwrap();
    assert!(keys.authenticate(&short.reveal(), 99).is_ok());
    assert!(matches!(keys.authenticate(&short.reveal(), 100), Err(KeyError::Denied)));

    let (key, token) = keys.create(&new(&[Scope::Read], None), 0).unwrap();
    let beside = Keys::open(&folder.path().join("access.sqlite")).unwrap();
    beside.revoke(&key.id, 5).unwrap();
    assert!(matches!(keys.authenticate(&token.reveal(), 6), Err(KeyError::Denied)), "revoked by another process");
    beside.revoke(&key.id, 9).unwrap();
    assert_eq!(keys.list().unwrap().iter().find(|k| k.id == key.id).unwrap().revoked_at, Some(5));
    assert!(matches!(keys.revoke(&"0000000000000000".parse().unwrap(), 0), Err(KeyError::Unknown(_))));
}

#[test]
fn the_file_holds_no_secret() {
    let (folder, keys) = keys();
    let (_, token) = keys.create(&new(&[Scope::Admin], None), 0).unwrap();
    let secret = token.reveal().rsplit('_').next().unwrap().to_owned();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()));
    }
    assert!(!format!("{token:?}").contains(&secret));
}

#[test]
fn refuses_senseless_keys() {
    let (_folder, keys) = keys();
    assert!(matches!(keys.create(&new(&[], None), 0), Err(KeyError::Invalid(_))));
    assert!(matches!(keys.create(&new(&[Scope::Read], Some(5)), 5), Err(KeyError::Invalid(_))));
    let wordy = NewKey { label: "x".repeat(201), ..new(&[Scope::Read], None) };
    assert!(matches!(keys.create(&wordy, 0), Err(KeyError::Invalid(_))));
}
