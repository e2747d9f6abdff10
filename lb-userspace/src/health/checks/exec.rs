//! `exec`: a program ends with 0.
use super::Verdict;
use crate::sys::command::{Ended, Job, run};
use lb_common::health::Command;
use std::net::SocketAddr;
use std::time::Duration;

/// What a program ends with whose server answers and should get nothing new.
const NOT_READY: i32 = 3;
/// So much of its first line is shown.
const SHOWN: usize = 160;

/// Runs it once.
pub(super) async fn probe(
    command: &Command,
    server: SocketAddr,
    service: &str,
    timeout: Duration,
) -> Verdict {
    let job = Job {
        command: command.command.iter().map(String::as_str).collect(),
        user: command.user.as_deref(),
        environment: vec![
            ("CPLB_SERVER_ADDRESS", server.ip().to_string()),
            ("CPLB_SERVER_PORT", server.port().to_string()),
            ("CPLB_VIRTUAL_SERVER", service.to_owned()),
        ],
        timeout,
        may_leave: false,
    };
    match run(&job).await {
        Ok(ended) => judge(command.program(), &ended),
        Err(e) => Verdict::Unknown(e.to_string()),
    }
}

fn judge(program: &str, ended: &Ended) -> Verdict {
    let why = || format!("{program} {}{}", ended.how, first_line(&ended.output));
    match ended.code {
        Some(0) => Verdict::Good(None),
        Some(NOT_READY) => Verdict::Unready(why()),
        // The shell's words for a program that is not there or not one: nobody was asked.
        Some(126 | 127) => Verdict::Unknown(why()),
        Some(_) | None => Verdict::Dead(why()),
    }
}

/// Of a program's output, as the end of a sentence.
fn first_line(output: &str) -> String {
    let line = output.lines().find(|l| !l.trim().is_empty()).unwrap_or_default();
    let clean: String = line.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
    if clean.is_empty() {
        String::new()
    } else {
        format!(": {}", clean.trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn of(text: &str, timeout: u64) -> Verdict {
        let command = Command {
            command: ["/bin/sh", "-c", text].map(str::to_owned).to_vec(),
            user: None,
        };
        let server = "192.0.2.1:6443".parse().unwrap();
        probe(&command, server, "api", Duration::from_millis(timeout)).await
    }

    #[tokio::test]
    async fn its_end_is_what_counts() {
        let asks =
            "test \"$CPLB_SERVER_ADDRESS $CPLB_SERVER_PORT $CPLB_VIRTUAL_SERVER\" = '192.0.2.1 6443 api'";
        assert_eq!(of(asks, 5000).await, Verdict::Good(None));
        let sh = "/bin/sh";
        assert_eq!(
            of("echo; echo stopping; exit 3", 5000).await,
            Verdict::Unready(format!("{sh} ended with 3: stopping"))
        );
        assert_eq!(
            of("exit 1", 5000).await,
            Verdict::Dead(format!("{sh} ended with 1"))
        );
        assert!(matches!(
            of("/no/such/file 2>/dev/null", 5000).await,
            Verdict::Unknown(_)
        ));
        let Verdict::Dead(why) = of("sleep 60", 200).await else {
            panic!("it slept")
        };
        assert!(why.contains("did not end within 200ms"), "{why}");
    }
}
