//! Files that a check needs: authorities, certificates, keys, tokens. They are read again when they change, so that a
//! rotation needs no reload; one that is broken or gone leaves the one before in force. Their content is never shown.
use lb_common::health::{Identity, TlsProbe, Trust};
use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, client::WebPkiServerVerifier};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

/// A file of this kind that is longer is none.
const LONGEST: u64 = 1 << 20;

/// What of a file shows that it is another one than before.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
}

fn stamp(path: &str) -> Result<Stamp, String> {
    let meta = fs::metadata(path).map_err(|e| format!("{path}: {e}"))?;
    Ok(Stamp {
        inode: meta.ino(),
        length: meta.len(),
        modified: (meta.mtime(), meta.mtime_nsec()),
    })
}

/// Something made of files, made again when one of them changes.
#[derive(Debug)]
pub(super) struct Watched<T> {
    paths: Vec<String>,
    /// Of the files that were looked at last, sound or not.
    seen: Option<Vec<Stamp>>,
    value: Option<Arc<T>>,
    problem: Option<String>,
}

impl<T> Watched<T> {
    pub(super) const fn new(paths: Vec<String>) -> Self {
        Self {
            paths,
            seen: None,
            value: None,
            problem: None,
        }
    }

    /// The value as the files are now, or as they were when they were last sound. The error is a sentence without
    /// anything of their content.
    pub(super) fn get(&mut self, make: impl FnOnce() -> Result<T, String>) -> Result<Arc<T>, String> {
        let now: Result<Vec<Stamp>, String> = self.paths.iter().map(|p| stamp(p)).collect();
        match now {
            Err(why) => self.spoil(why),
            Ok(now) if self.seen.as_ref() == Some(&now) => {}
            Ok(now) => {
                self.seen = Some(now);
                match make() {
                    Ok(value) => {
                        self.value = Some(Arc::new(value));
                        self.problem = None;
                    }
                    Err(why) => self.spoil(why),
                }
            }
        }
        self.value
            .clone()
            .ok_or_else(|| self.problem.clone().unwrap_or_default())
    }

    /// Said once for each problem, and again after it has changed.
    fn spoil(&mut self, why: String) {
        if self.value.is_some() && self.problem.as_ref() != Some(&why) {
            tracing::warn!(
                why,
                "a file of a health check cannot be used; what it held before stays in force"
            );
        }
        self.problem = Some(why);
    }
}

/// Reads a small file.
pub(super) fn read(path: &str) -> Result<Vec<u8>, String> {
    let length = fs::metadata(path).map_err(|e| format!("{path}: {e}"))?.len();
    if length > LONGEST {
        return Err(format!(
            "{path}: {length} bytes are too many for a file of this kind"
        ));
    }
    fs::read(path).map_err(|e| format!("{path}: {e}"))
}

/// A bearer token, without the line's end.
pub(super) fn token(path: &str) -> Result<String, String> {
    let text = String::from_utf8(read(path)?).map_err(|_| format!("{path}: this is no text"))?;
    let token = text.trim();
    if token.is_empty() || !token.chars().all(|c| c.is_ascii_graphic()) {
        return Err(format!("{path}: this is no bearer token"));
    }
    Ok(token.to_owned())
}

/// The files that [`client`] reads.
pub(super) fn files(probe: &TlsProbe) -> Vec<String> {
    let authority = match &probe.trust {
        Trust::Authority(file) => Some(file),
        Trust::Anybody | Trust::Fingerprints(_) => None,
    };
    let identity = probe.identity.iter().flat_map(|i| [&i.certificate, &i.key]);
    authority.into_iter().chain(identity).cloned().collect()
}

/// What a TLS connection of this check is made with.
pub(super) fn client(probe: &TlsProbe, protocols: &[&[u8]]) -> Result<ClientConfig, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = verifier(&probe.trust, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &probe.identity {
        None => builder.with_no_client_auth(),
        Some(Identity { certificate, key }) => {
            let chain = certificates(certificate)?;
            // The parser's own words could show a part of the key.
            let bytes = read(key)?;
            let key_der = PrivateKeyDer::from_pem_slice(&bytes)
                .map_err(|_| format!("{key}: there is no private key in it"))?;
            builder
                .with_client_auth_cert(chain, key_der)
                .map_err(|e| format!("{certificate} and {key}: {e}"))?
        }
    };
    config.alpn_protocols = protocols.iter().map(|p| p.to_vec()).collect();
    // Each check is to prove a whole handshake.
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = read(path)?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let all = all.map_err(|e| format!("{path}: {e}"))?;
    if all.is_empty() {
        return Err(format!("{path}: there is no certificate in it"));
    }
    Ok(all)
}

fn verifier(trust: &Trust, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, String> {
    match trust {
        Trust::Anybody => Ok(Arc::new(super::trust::Anybody::new(provider))),
        Trust::Fingerprints(all) => Ok(Arc::new(super::trust::Known::new(provider, all.clone()))),
        Trust::Authority(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|e| format!("{path}: {e}"))?;
            }
            let built =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
            built
                .map(|v| v as Arc<dyn ServerCertVerifier>)
                .map_err(|e| format!("{path}: {e}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_read_again_and_a_broken_one_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token").display().to_string();
        let mut watched = Watched::new(vec![path.clone()]);
        let mut get = || watched.get(|| token(&path)).map(|t| t.to_string());
        let missing = get().unwrap_err();
        assert!(missing.contains("No such file"), "{missing}");
        fs::write(&path, "first\n").unwrap();
        assert_eq!(get().as_deref(), Ok("first"));
        fs::write(&path, "the second\n").unwrap();
        assert_eq!(
            get().as_deref(),
            Ok("first"),
            "two words are none: the one before"
        );
        fs::write(&path, "second-of-them\n").unwrap();
        assert_eq!(get().as_deref(), Ok("second-of-them"));
        fs::remove_file(&path).unwrap();
        assert_eq!(get().as_deref(), Ok("second-of-them"));
        fs::write(&path, "third!\n").unwrap();
        assert_eq!(get().as_deref(), Ok("third!"));
    }

    #[test]
    fn a_problem_with_a_secret_does_not_show_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret").display().to_string();
        fs::write(
            &path,
            "-----BEGIN PRIVATE KEY-----\nhunter2hunter2\n-----END PRIVATE KEY-----\n",
        )
        .unwrap();
        let probe = TlsProbe {
            identity: Some(Identity {
                certificate: path.clone(),
                key: path.clone(),
            }),
            ..TlsProbe::default()
        };
        for error in [token(&path).unwrap_err(), client(&probe, &[]).unwrap_err()] {
            assert!(error.contains("secret") && !error.contains("hunter2"), "{error}");
        }
    }
}
