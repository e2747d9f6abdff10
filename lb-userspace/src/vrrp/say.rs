//! What the driver says in the log: one sentence each, with the values as fields.
//!
//! Nothing here decides whether a line is due; that is the limiter's.
use super::conflict::Claim;
use super::member::Member;
use lb_common::model::Priority;
use lb_common::spec::Instance;
use lb_common::vrrp::{Advert, FaultReason, Notes, Reason, Reject, State};
use std::error::Error;
use std::time::Duration;

/// A change of state.
pub(super) fn transition(m: &Member, priority: Priority, from: State, to: State, reason: Reason) {
    let interface = m.resolution.interface.as_ref().map_or("", |i| i.name.as_str());
    tracing::info!(
        instance = %m.spec.name,
        vrid = %m.spec.vrid,
        interface,
        %priority,
        %from,
        %to,
        "now {}: {}",
        to.name(),
        because(reason),
    );
}

/// A reason as the second half of a sentence.
fn because(reason: Reason) -> String {
    match reason {
        Reason::Startup => "the interface is usable".to_owned(),
        Reason::Resumed => "it took over from the daemon before it".to_owned(),
        Reason::Owner => "this router owns the addresses".to_owned(),
        Reason::ActiveDown => "no other router was heard in time".to_owned(),
        Reason::ActiveLeft => "the Active router said that it leaves".to_owned(),
        Reason::Preempted => "this router has a higher priority than the Active one".to_owned(),
        Reason::Better { by, priority } => format!("{by} is better, with priority {priority}"),
        Reason::Shutdown => "this router is being stopped".to_owned(),
        Reason::Succeeded { by } => format!("{by} has taken over"),
        Reason::NoSuccessor => "nobody took over in time".to_owned(),
        Reason::Overslept => "this process slept too long to know who is Active".to_owned(),
        Reason::SyncGroup => "its sync group decided so".to_owned(),
        Reason::Fault(fault) => obstacle(fault).to_owned(),
    }
}

const fn obstacle(fault: FaultReason) -> &'static str {
    match fault {
        FaultReason::NoInterface => "its interface does not exist",
        FaultReason::InterfaceDown => "its interface is down or has no carrier",
        FaultReason::NoAddress => "its interface has no address that adverts could leave from",
        FaultReason::Tracked => "something that it tracks is down",
        FaultReason::SyncGroup => "a member of its sync group cannot take part",
        FaultReason::Socket => "its socket cannot be used",
    }
}

/// An instance cannot take part, or can again.
pub(super) fn fault(spec: &Instance, fault: Option<FaultReason>) {
    let (instance, vrid) = (&spec.name, spec.vrid);
    match fault {
        Some(reason) => {
            tracing::warn!(%instance, %vrid, interface = ?spec.interface, "takes no part: {}", obstacle(reason))
        }
        None => tracing::info!(%instance, %vrid, "takes part"),
    }
}

/// A packet that was not accepted.
pub(super) fn rejected(spec: &Instance, reject: &Reject, suppressed: u64) {
    tracing::warn!(
        instance = %spec.name,
        vrid = %spec.vrid,
        source = %reject.source,
        kind = reject.kind(),
        foreign = reject.is_foreign(),
        suppressed,
        "{reject}"
    );
}

/// A packet that was accepted although something about it is odd.
pub(super) fn notes(spec: &Instance, advert: &Advert, notes: &Notes, suppressed: u64) {
    tracing::warn!(
        instance = %spec.name,
        vrid = %spec.vrid,
        source = %advert.source,
        suppressed,
        "advert from {} accepted, but {notes}",
        advert.source
    );
}

/// Somebody else answers for a VIP that this node holds.
pub(super) fn conflict(spec: &Instance, claim: Claim, suppressed: u64) {
    tracing::warn!(
        instance = %spec.name,
        vrid = %spec.vrid,
        vip = %claim.address,
        mac = %claim.mac,
        suppressed,
        "{} is held here, and {} answers for it too",
        claim.address,
        claim.mac
    );
}

/// A socket cannot be opened or used.
pub(super) fn socket(spec: &Instance, error: &(dyn Error + 'static), again: Duration) {
    tracing::warn!(
        instance = %spec.name,
        vrid = %spec.vrid,
        error,
        again_ms = u64::try_from(again.as_millis()).unwrap_or(u64::MAX),
        "{error}"
    );
}

/// An advert was not sent.
pub(super) fn send_failed(spec: &Instance, error: &(dyn Error + 'static), suppressed: u64) {
    tracing::warn!(instance = %spec.name, vrid = %spec.vrid, error, suppressed, "an advert could not be sent: {error}");
}

/// Two instances that came to be on one interface.
pub(super) fn duplicate_vrid(spec: &Instance, interface: &str, again: Duration) {
    tracing::warn!(
        instance = %spec.name,
        vrid = %spec.vrid,
        interface,
        again_ms = u64::try_from(again.as_millis()).unwrap_or(u64::MAX),
        "another instance has this virtual router ID on {interface} already: this one takes no part"
    );
}
