//! How long leaving may take, and waiting for it.
use crate::vrrp::Driver;
use lb_common::spec::Spec;
use std::time::Duration;

/// Long enough for a successor that missed our priority 0 to find out by itself (three intervals and the skew, and the
/// linger), short enough for systemd.
pub fn leave_for(spec: &Spec) -> Duration {
    let slowest = spec
        .instances
        .iter()
        .map(|i| i.advert_interval.duration())
        .max()
        .unwrap_or_default();
    (slowest * 4 + Duration::from_secs(3)).min(Duration::from_secs(60))
}

/// True when the election's thread has let everything go within `limit`.
pub async fn wait_for_leaving(driver: &Driver, limit: Duration) -> bool {
    let deadline = crate::clock::now() + limit;
    while !driver.is_finished() {
        if crate::clock::now() >= deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    true
}
