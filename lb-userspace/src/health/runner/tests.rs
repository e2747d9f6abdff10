//! Checks against servers on loopback: what each kind finds, and what becomes of it.
use super::*;
use lb_common::health::{Fingerprint, HealthCheck, HttpProbe, Identity, StatusRange, TlsProbe, Trust};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use std::fs;
use std::net::SocketAddr;
use std::sync::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// What a request got, and what the server was asked.
type Requests = Arc<Mutex<Vec<String>>>;

fn target(address: SocketAddr, probe: Probe) -> Target {
    Target {
        server: address,
        at: address,
        vip: None,
        service: String::new(),
        check: Arc::new(HealthCheck {
            timeout: Duration::from_millis(400),
            ..HealthCheck::new(probe)
        }),
    }
}

async fn ask_once(address: SocketAddr, probe: Probe) -> Verdict {
    Prober::new(target(address, probe)).ask().await.0
}

fn http(path: &str) -> HttpProbe {
    HttpProbe {
        path: path.into(),
        host: None,
        token: None,
        expected: Vec::new(),
    }
}

fn https(tls: TlsProbe, http: HttpProbe) -> Probe {
    Probe::Https(Box::new((tls, http)))
}

/// Answers each request with what `answer` makes of its head.
async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    requests: Requests,
    answer: fn(&str) -> String,
) {
    let (mut head, mut buffer) = (Vec::new(), [0; 1024]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(n) if n > 0 => head.extend_from_slice(&buffer[..n]),
            _ => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let reply = answer(&head);
    requests.lock().unwrap().push(head);
    if reply.is_empty() {
        std::future::pending::<()>().await;
    }
    let _ = stream.write_all(reply.as_bytes()).await;
    let _ = stream.shutdown().await;
}

/// As an API server does: by its path.
fn api(head: &str) -> String {
    let path = head.split(' ').nth(1).unwrap_or_default();
    let (status, body) = match path {
        "/readyz" => ("200 OK", "ok"),
        "/stopping" => (
            "500 Internal Server Error",
            "[+]ping ok\n[-]shutdown failed: reason withheld\n",
        ),
        "/closed" if head.contains("authorization: Bearer t0ken\r\n") => ("200 OK", "ok"),
        "/closed" => ("401 Unauthorized", "who are you?"),
        "/silent" => return String::new(),
        "/garbage" => return "SSH-2.0-OpenSSH\r\n".into(),
        _ => ("404 Not Found", ""),
    };
    format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn plain_server(answer: fn(&str) -> String) -> (SocketAddr, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Requests::default();
    let log = requests.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, log.clone(), answer));
        }
    });
    (address, requests)
}

/// An authority with a server's and a client's certificate, as files.
struct Pki {
    dir: tempfile::TempDir,
    server: Arc<ServerConfig>,
    fingerprint: Fingerprint,
}

fn signed(
    issuer: &CertifiedIssuer<'_, KeyPair>,
    names: &[&str],
) -> (CertificateDer<'static>, String, KeyPair) {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(names)
        .unwrap()
        .signed_by(&key, issuer)
        .unwrap();
    (certificate.der().clone(), certificate.pem(), key)
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

impl Pki {
    /// `clients`: the server asks for a client certificate.
    fn new(clients: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let issuer = authority();
        let (certificate, _, key) = signed(&issuer, &["127.0.0.1", "kubernetes"]);
        let digest = ring::digest::digest(&ring::digest::SHA256, &certificate);
        let fingerprint = Fingerprint(digest.as_ref().try_into().unwrap());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if clients {
            let mut roots = RootCertStore::empty();
            roots.add(issuer.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        let der = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let server = Arc::new(builder.with_single_cert(vec![certificate], der).unwrap());
        let (_, pem, key) = signed(&issuer, &["checker"]);
        fs::write(dir.path().join("ca.crt"), issuer.pem()).unwrap();
        fs::write(dir.path().join("client.crt"), pem).unwrap();
        fs::write(dir.path().join("client.key"), key.serialize_pem()).unwrap();
        Self {
            dir,
            server,
            fingerprint,
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn by_authority(&self) -> TlsProbe {
        TlsProbe {
            trust: Trust::Authority(self.path("ca.crt")),
            ..TlsProbe::default()
        }
    }

    fn identity(&self) -> Option<Identity> {
        Some(Identity {
            certificate: self.path("client.crt"),
            key: self.path("client.key"),
        })
    }

    async fn serve(&self, answer: fn(&str) -> String) -> (SocketAddr, Requests) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, acceptor) = (Requests::default(), TlsAcceptor::from(self.server.clone()));
        let log = requests.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, log) = (acceptor.clone(), log.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, log, answer).await;
                    }
                });
            }
        });
        (address, requests)
    }
}

#[tokio::test]
async fn a_listener_is_healthy_and_a_closed_port_says_why_not() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    assert_eq!(ask_once(address, Probe::Tcp).await, Verdict::Good(None));
    drop(listener);
    let verdict = ask_once(address, Probe::Tcp).await;
    assert!(
        matches!(&verdict, Verdict::Dead(w) if w.contains("refused")),
        "{verdict:?}"
    );
}

#[tokio::test]
async fn https_finds_out_who_is_ready_who_is_not_and_who_is_dead() {
    let pki = Pki::new(false);
    let (address, requests) = pki.serve(api).await;
    let ask = |path: &str| ask_once(address, https(pki.by_authority(), http(path)));
    assert_eq!(ask("/readyz").await, Verdict::Good(None));
    let verdict = ask("/stopping").await;
    assert_eq!(
        verdict,
        Verdict::Unready("/stopping answers 500: [-]shutdown failed: reason withheld".into())
    );
    let verdict = ask("/silent").await;
    assert_eq!(verdict, Verdict::Dead("no answer within 400ms".into()));
    let verdict = ask("/garbage").await;
    assert!(
        matches!(&verdict, Verdict::Unready(w) if w.contains("not in HTTP")),
        "{verdict:?}"
    );
    let first = requests.lock().unwrap()[0].clone();
    for header in [
        "GET /readyz HTTP/1.1\r\n",
        &format!("host: {address}\r\n"),
        "connection: close\r\n",
        "user-agent: cplb/",
    ] {
        assert!(first.contains(header), "{header}: {first}");
    }
}

#[tokio::test]
async fn an_api_server_that_hides_its_readiness_lives_until_credentials_are_given() {
    let pki = Pki::new(false);
    let (address, _) = pki.serve(api).await;
    let token = pki.path("token");
    fs::write(&token, "wrong\n").unwrap();
    let with = |token: Option<&String>| HttpProbe {
        token: token.cloned(),
        ..http("/closed")
    };
    let verdict = ask_once(address, https(TlsProbe::default(), with(None))).await;
    assert!(
        matches!(&verdict, Verdict::Good(Some(w)) if w.contains("answers 401 to strangers")),
        "{verdict:?}"
    );
    let mut prober = Prober::new(target(address, https(TlsProbe::default(), with(Some(&token)))));
    let verdict = prober.ask().await.0;
    assert_eq!(
        verdict,
        Verdict::Unready("/closed answers 401: who are you?".into())
    );
    fs::write(&token, "t0ken\n").unwrap();
    assert_eq!(prober.ask().await.0, Verdict::Good(None), "the file changed");
    fs::remove_file(&token).unwrap();
    assert_eq!(
        prober.ask().await.0,
        Verdict::Good(None),
        "what it held stays in force"
    );
    let expects = HttpProbe {
        expected: vec![StatusRange {
            first: 404,
            last: 404,
        }],
        ..http("/nowhere")
    };
    assert_eq!(
        ask_once(address, https(TlsProbe::default(), expects)).await,
        Verdict::Good(None)
    );
}

#[tokio::test]
async fn a_server_is_who_it_has_to_be() {
    let (pki, other) = (Pki::new(false), Pki::new(false));
    let (address, _) = pki.serve(api).await;
    let named = |name: &str| TlsProbe {
        server_name: Some(name.into()),
        ..pki.by_authority()
    };
    let known = |f: Fingerprint| TlsProbe {
        trust: Trust::Fingerprints([f].into()),
        ..TlsProbe::default()
    };
    for good in [
        TlsProbe::default(),
        pki.by_authority(),
        named("kubernetes"),
        known(pki.fingerprint),
    ] {
        assert_eq!(
            ask_once(address, Probe::Tls(good.clone())).await,
            Verdict::Good(None),
            "{good:?}"
        );
    }
    for bad in [other.by_authority(), named("etcd"), known(other.fingerprint)] {
        let verdict = ask_once(address, Probe::Tls(bad.clone())).await;
        assert!(
            matches!(&verdict, Verdict::Unready(w) if w.contains("TLS handshake failed")),
            "{bad:?}: {verdict:?}"
        );
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown() {
    let pki = Pki::new(true);
    let (address, _) = pki.serve(api).await;
    let stranger = ask_once(address, https(pki.by_authority(), http("/readyz"))).await;
    assert!(!matches!(stranger, Verdict::Good(_)), "{stranger:?}");
    let tls = TlsProbe {
        identity: pki.identity(),
        ..pki.by_authority()
    };
    assert_eq!(
        ask_once(address, https(tls, http("/readyz"))).await,
        Verdict::Good(None)
    );
}

#[tokio::test]
async fn a_hang_after_the_connection_and_plain_text_are_told_apart() {
    let hangs = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = hangs.local_addr().unwrap();
    assert_eq!(
        ask_once(address, Probe::Tcp).await,
        Verdict::Good(None),
        "what tcp cannot see"
    );
    for probe in [
        Probe::Tls(TlsProbe::default()),
        https(TlsProbe::default(), http("/readyz")),
    ] {
        let verdict = ask_once(address, probe).await;
        assert_eq!(verdict, Verdict::Dead("no answer within 400ms".into()));
    }
    let (address, _) = plain_server(api).await;
    assert_eq!(
        ask_once(address, Probe::Http(http("/readyz"))).await,
        Verdict::Good(None)
    );
    let closes = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = closes.local_addr().unwrap();
    tokio::spawn(async move { while closes.accept().await.is_ok() {} });
    for probe in [Probe::Tls(TlsProbe::default()), Probe::Http(http("/"))] {
        let verdict = ask_once(address, probe).await;
        assert!(matches!(verdict, Verdict::Dead(_)), "{verdict:?}");
    }
}

#[tokio::test]
async fn what_this_node_lacks_says_nothing_of_the_server() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let missing = TlsProbe {
        trust: Trust::Authority("/no/such/ca.crt".into()),
        ..TlsProbe::default()
    };
    let verdict = ask_once(address, Probe::Tls(missing)).await;
    assert!(
        matches!(&verdict, Verdict::Unknown(w) if w.contains("/no/such/ca.crt")),
        "{verdict:?}"
    );
    let mut from_elsewhere = target(address, Probe::Tcp);
    Arc::make_mut(&mut from_elsewhere.check).source = Some("192.0.2.77".parse().unwrap());
    let verdict = Prober::new(from_elsewhere).ask().await.0;
    assert!(matches!(&verdict, Verdict::Unknown(_)), "{verdict:?}");
}

mod scheduled {
    use super::*;
    use crate::config::{Overrides, load_text};
    use lb_common::health::Choice;
    use std::sync::atomic::{AtomicU8, Ordering};
    use tokio::task::JoinHandle;

    const READY: u8 = 0;
    const STOPPING: u8 = 1;

    /// A server whose `/readyz` says what it is told to.
    async fn server(at: SocketAddr, state: Arc<AtomicU8>) -> (SocketAddr, JoinHandle<()>) {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 1024];
                let _ = stream.read(&mut head).await;
                let status = if state.load(Ordering::Relaxed) == READY {
                    "200 OK"
                } else {
                    "500 No"
                };
                let reply = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
                let _ = stream.write_all(reply.as_bytes()).await;
            }
        });
        (address, task)
    }

    fn spec(servers: &[SocketAddr], rest: &str) -> Arc<Spec> {
        let list: Vec<String> = servers
            .iter()
            .map(|s| format!("{{address: {}, port: {}}}", s.ip(), s.port()))
            .collect();
        let text = format!(
            "apiVersion: cplb.io/v1alpha1\nkind: ControlPlaneLoadBalancer\nspec:\n  \
             vrrpInstances: [{{virtualIPs: [192.0.2.200/24]}}]\n  virtualServers:\n    - name: api\n      \
             ipAddress: 192.0.2.200\n      lbKind: NAT\n      lbAlgo: wlc\n      \
             healthCheck: {{type: http, path: /readyz, interval: 20ms, warmUp: 0s, rise: 2, fall: 3{rest}}}\n      \
             realServers: [{}]\n",
            list.join(", ")
        );
        let nobody = |_: &str| Err("nobody".to_owned());
        match load_text("test.yaml", text.as_bytes(), &Overrides::default(), &nobody) {
            Ok(loaded) => Arc::new(loaded.spec),
            Err(report) => panic!("{report}"),
        }
    }

    /// Waits for a view that fits; the limit only ends what would never end.
    async fn until(health: &mut Health, what: &str, fits: impl Fn(&HealthView) -> bool) {
        let waiting = health.view.wait_for(|view| fits(view));
        let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
        assert!(waited.is_ok(), "{what}");
    }

    #[tokio::test]
    async fn a_server_is_up_then_unready_then_down_then_up_again() {
        let state = Arc::new(AtomicU8::new(READY));
        let any = "127.0.0.1:0".parse().unwrap();
        let (address, task) = server(any, state.clone()).await;
        let other = Arc::new(AtomicU8::new(READY));
        let (well, _task) = server(any, other).await;
        let first = spec(&[address, well], "");
        let key = first.virtual_servers[0].key;
        let (spec_in, spec_out) = watch::channel(first);
        let mut health = spawn(spec_out, None);
        let seat = (key, address);
        let checked = |report: &Arc<HealthReport>| report.servers.get(&address).is_some_and(|t| t.checks > 2);
        health.report.wait_for(checked).await.unwrap();
        assert_eq!(**health.view.borrow(), HealthView::default());

        state.store(STOPPING, Ordering::Relaxed);
        until(&mut health, "it is not ready", |v| v.unready.contains(&seat)).await;
        assert!(health.view.borrow().down.is_empty(), "the other is well");
        task.abort();
        let _ = task.await;
        until(&mut health, "it is down", |v| {
            v.down.contains(&seat) && v.unready.is_empty()
        })
        .await;

        // Only how it is asked changes: what is known of it stays.
        spec_in.send_replace(spec(&[address, well], ", timeout: 2s"));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(health.view.borrow().down.contains(&seat));

        state.store(READY, Ordering::Relaxed);
        let (_, task) = server(address, state.clone()).await;
        until(&mut health, "it is up", |v| *v == HealthView::default()).await;

        // It is taken out of the file: nobody asks it any more.
        spec_in.send_replace(spec(&[well], ""));
        health
            .report
            .wait_for(|report| !report.servers.contains_key(&address))
            .await
            .unwrap();
        task.abort();
    }

    #[tokio::test]
    async fn when_none_answers_all_are_kept_and_it_is_said() {
        let dead = [1, 2].map(|n| SocketAddr::from(([127, 0, 0, n], 1)));
        let (_spec_in, spec_out) = watch::channel(spec(&dead, ""));
        let mut health = spawn(spec_out, None);
        until(&mut health, "both are down", |v| v.down.len() == 2).await;
        let said = |report: &Arc<HealthReport>| {
            report.problems
                == [
                    "api: NONE of its 2 real servers answers: all are kept, in case it is the checks that fail",
                ]
        };
        let report = health.report.wait_for(said).await.unwrap();
        assert_eq!(report.services[0].choice, Choice::All);
        let one = &report.servers[&dead[0]];
        assert_eq!(
            (one.state, one.up, one.check.as_str()),
            (State::Down, false, "http")
        );
        assert!(
            one.last_error.as_deref().unwrap_or_default().contains("refused"),
            "{one:?}"
        );
    }

    #[tokio::test]
    async fn two_virtual_servers_that_ask_the_same_ask_once() {
        let (address, requests) = plain_server(api).await;
        let mut twice = (*spec(&[address], "")).clone();
        let mut second = twice.virtual_servers[0].clone();
        second.key.port = 7443;
        twice.virtual_servers.push(second);
        let all = targets(&twice);
        let seats: Vec<usize> = all.values().map(BTreeSet::len).collect();
        assert_eq!(seats, [2]);
        twice.virtual_servers[1].health_check.rise = 1;
        assert_eq!(targets(&twice).len(), 2, "two ways of asking");
        twice.enabled = false;
        assert!(targets(&twice).is_empty() && requests.lock().unwrap().is_empty());
    }
}
