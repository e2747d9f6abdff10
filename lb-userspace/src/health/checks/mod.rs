//! What a check does. A further kind is one file here and one arm in [`probe`].
mod direct;
mod tcp;

use lb_common::health::Question;
use lb_common::spec::{HealthCheck, HealthCheckKind, Spec, VirtualServer};
use std::collections::BTreeMap;
use std::time::Duration;

/// One real server to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whom, and about which virtual IP.
    pub question: Question,
    /// How.
    pub check: HealthCheck,
}

/// Everything in `spec` that is to be asked. Two virtual servers with one question ask once, the first one's way.
pub(super) fn targets(spec: &Spec) -> BTreeMap<Question, Target> {
    let mut out = BTreeMap::new();
    if !spec.enabled {
        return out;
    }
    let checked = |vs: &&VirtualServer| vs.health_check.kind != HealthCheckKind::None;
    for vs in spec.virtual_servers.iter().filter(checked) {
        for server in &vs.real_servers {
            let question = vs.question(server);
            out.entry(question).or_insert_with(|| Target {
                question,
                check: vs.health_check.clone(),
            });
        }
    }
    out
}

/// Asks once. The error says what went wrong in words.
pub(super) async fn probe(target: &Target) -> Result<Duration, String> {
    let started = crate::clock::now();
    let limit = target.check.timeout;
    let outcome = match target.check.kind {
        HealthCheckKind::Tcp => tokio::time::timeout(limit, tcp::probe(target.question.0)).await,
        HealthCheckKind::None => return Ok(Duration::ZERO),
    };
    match outcome {
        Ok(Ok(())) => {
            let latency = crate::clock::now().saturating_since(started);
            if let (server, Some(vip)) = target.question {
                direct::probe(server, vip, limit).await?;
            }
            Ok(latency)
        }
        Ok(Err(e)) => Err(e.to_string()),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}
