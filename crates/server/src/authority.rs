//! A certificate authority of the node's own, for the domain of its sandboxes alone, and certificates by it.
//!
//! The authority's key and certificate lie in the data folder; who trusts the certificate can talk to sandboxes over TLS. It is constrained to the one
//! domain, so that its key, if it is ever stolen, vouches for nothing else. Certificates are made in memory and renewed by themselves.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, date_time_ymd,
};
use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::e2b::date_of;

/// How long a certificate is used before another is made: long before it ends.
const RENEWED: Duration = Duration::from_secs(30 * 86_400);

/// How long certificates and the authority are good, in days. Some clients take none of servers that are good for longer than 398.
const CERTIFICATE_DAYS: i64 = 397;
const AUTHORITY_DAYS: i64 = 3_650;

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Not a domain.
    #[error("{0:?} is not a domain: labels of a-z, 0-9 and -, with dots between them")]
    Domain(String),
    /// Its folder.
    #[error("the folder of the certificate authority: {0}")]
    File(#[from] io::Error),
    /// Its key or certificate.
    #[error("the certificate authority: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A certificate cannot be used.
    #[error("a certificate: {0}")]
    Tls(#[from] rustls::Error),
}

/// The authority of a domain, and the certificate of the moment.
pub(crate) struct Authority {
    domain: String,
    file: PathBuf,
    root: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    current: RwLock<(Arc<CertifiedKey>, Instant)>,
}

impl Authority {
    /// Opens the authority of a domain in `folder`, or makes it.
    pub fn open(folder: &Path, domain: &str) -> Result<Self, AuthorityError> {
        if !is_domain(domain) {
            return Err(AuthorityError::Domain(domain.chars().take(80).collect()));
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let (file, key_file) = (folder.join(format!("{domain}.pem")), folder.join(format!("{domain}.key")));
        let params = authority(domain)?;
        let (key, root) = match (fs::read_to_string(&key_file), CertificateDer::from_pem_file(&file)) {
            (Ok(key), Ok(root)) => (KeyPair::from_pem(&key)?, root),
            _ => {
                let key = KeyPair::generate()?;
                let made = params.self_signed(&key)?;
                // The key first: a certificate without its key would be trusted by people and of no use.
                write(&key_file, &key.serialize_pem(), 0o600)?;
                write(&file, &made.pem(), 0o644)?;
                (key, made.der().clone())
            }
        };
        let issuer = Issuer::new(params, key);
        let current = RwLock::new((Arc::new(certificate(domain, &issuer, &root)?), Instant::now()));
        Ok(Self { domain: domain.to_owned(), file, root, issuer, current })
    }

    /// The certificate that clients must trust, as PEM.
    pub fn file(&self) -> &Path {
        &self.file
    }

    fn now(&self) -> Arc<CertifiedKey> {
        let (current, made) = {
            let held = self.current.read().unwrap_or_else(PoisonError::into_inner);
            (Arc::clone(&held.0), held.1)
        };
        if made.elapsed() < RENEWED {
            return current;
        }
        match certificate(&self.domain, &self.issuer, &self.root) {
            Ok(next) => {
                let next = Arc::new(next);
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = (Arc::clone(&next), Instant::now());
                next
            }
            Err(error) => {
                tracing::error!(%error, "the certificate of the sandboxes' domain could not be renewed");
                current
            }
        }
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("domain", &self.domain).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Authority {
    /// For the domain and what is one label below it; a client that names nothing gets the same, one that names anything else nothing.
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match hello.server_name() {
            Some(name) if !vouches(&self.domain, name) => None,
            _ => Some(self.now()),
        }
    }
}

/// Whether the certificate of `domain` is good for `name`.
fn vouches(domain: &str, name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name == domain || name.strip_suffix(domain).and_then(|rest| rest.strip_suffix('.')).is_some_and(|label| !label.contains('.'))
}

fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 200 && text.split('.').all(label)
}

/// What the authority is; the same for every start, for what it issues names it.
fn authority(domain: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, format!("skep sandboxes at {domain}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints =
        Some(NameConstraints { permitted_subtrees: vec![GeneralSubtree::DnsName(domain.to_owned())], excluded_subtrees: Vec::new() });
    good_for(&mut params, AUTHORITY_DAYS);
    Ok(params)
}

fn certificate(domain: &str, issuer: &Issuer<'_, KeyPair>, root: &CertificateDer<'static>) -> Result<CertifiedKey, AuthorityError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![domain.to_owned(), format!("*.{domain}")])?;
    params.distinguished_name.push(DnType::CommonName, domain);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    good_for(&mut params, CERTIFICATE_DAYS);
    let made = params.signed_by(&key, issuer)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = rustls::crypto::ring::sign::any_supported_type(&key)?;
    Ok(CertifiedKey::new(vec![made.der().clone(), root.clone()], key))
}

/// From yesterday, for clocks that are behind, for so many days.
fn good_for(params: &mut CertificateParams, days: i64) {
    let today = skep_node::now_ms() / 86_400_000;
    let date = |day: i64| {
        let (year, month, day) = date_of(day);
        date_time_ymd(i32::try_from(year).unwrap_or(i32::MAX), u8::try_from(month).unwrap_or(1), u8::try_from(day).unwrap_or(1))
    };
    params.not_before = date(today - 1);
    params.not_after = date(today + days);
}

/// The whole file or none.
fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let aside = path.with_extension("new");
    let _ = fs::remove_file(&aside);
    let mut file = OpenOptions::new().create_new(true).write(true).mode(mode).open(&aside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(aside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_vouches_for_its_domain_and_one_label_below() {
        for name in ["sbx.localhost", "8080-iabc.sbx.localhost", "API.SBX.localhost"] {
            assert!(vouches("sbx.localhost", name), "{name}");
        }
        for name in ["localhost", "evilsbx.localhost", "a.b.sbx.localhost", "sbx.localhost.evil.example", ""] {
            assert!(!vouches("sbx.localhost", name), "{name}");
        }
        for not in ["", ".", "../x", "a..b", "A", "a_b", "-a", "a/b"] {
            assert!(!is_domain(not), "{not}");
        }
    }

    #[test]
    fn it_is_the_same_authority_after_a_restart_and_its_key_is_its_owners() {
        let folder = tempfile::tempdir().unwrap();
        let first = Authority::open(folder.path(), "sbx.localhost").unwrap();
        let second = Authority::open(folder.path(), "sbx.localhost").unwrap();
        assert_eq!(first.root, second.root);
        assert_eq!(first.now().cert[1], second.now().cert[1]);
        let mode =
            |name: &str| std::os::unix::fs::PermissionsExt::mode(&fs::metadata(folder.path().join(name)).unwrap().permissions()) & 0o777;
        assert_eq!(mode("sbx.localhost.key"), 0o600);
        assert!(matches!(Authority::open(folder.path(), "../x"), Err(AuthorityError::Domain(_))));
    }
}
