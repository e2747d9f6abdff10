//! What hooks are told, in which order, and that nobody waits for them.
use super::*;
use lb_common::health::Command;
use lb_common::model::{Family, Version};
use lb_common::spec::Listener;
use lb_common::vrrp::{FaultReason, Reason, State};
use std::path::Path;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UnixListener;

fn view(transitions: &[(State, State, Reason)]) -> InstanceView {
    let records = transitions.iter().zip(1..).map(|((from, to, reason), number)| {
        serde_json::from_value(serde_json::json!({
            "number": number, "atMs": 1_700_000_000_000_u64 + number, "from": from, "to": to, "reason": reason,
        }))
        .unwrap()
    });
    InstanceView {
        name: "api".into(),
        vrid: 51,
        version: Version::V3,
        family: Family::Ipv4,
        interface: None,
        source: None,
        virtual_ips: vec!["192.0.2.1/24".parse().unwrap()],
        state: transitions.last().map_or(State::Initialize, |t| t.1),
        holds: false,
        priority: 150,
        fault: None,
        active: None,
        transitions: records.collect(),
        last_rejected: None,
        counters: crate::vrrp::Counters::default(),
        conflict: None,
    }
}

fn keeper(hooks: Vec<Hook>) -> Keeper {
    let list = hooks.iter().map(Listening::start).collect();
    Keeper {
        hooks: BTreeMap::from([("api".to_owned(), list)]),
        seen: BTreeMap::new(),
    }
}

fn exec(text: &str, timeout: u64) -> Hook {
    Hook {
        listener: Listener::Exec(Command {
            command: ["/bin/sh", "-c", text, "hook"].map(str::to_owned).to_vec(),
            user: Some("root".into()),
        }),
        on: Vec::new(),
        timeout: Duration::from_millis(timeout),
    }
}

fn roles(view: InstanceView) -> RoleView {
    RoleView {
        generation: 1,
        instances: vec![view],
    }
}

const UP: (State, State, Reason) = (State::Initialize, State::Backup, Reason::Startup);
const TAKES: (State, State, Reason) = (State::Backup, State::Active, Reason::ActiveDown);
const LEAVES: (State, State, Reason) = (State::Active, State::Leaving, Reason::Shutdown);
const LEFT: (State, State, Reason) = (State::Leaving, State::Initialize, Reason::NoSuccessor);

async fn until_there(path: &Path, lines: usize) -> String {
    for _ in 0..1000 {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.lines().count() >= lines {
            return text;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not {lines} lines: {:?}", std::fs::read_to_string(path));
}

#[tokio::test]
async fn scripts_of_keepalived_are_told_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let text = format!(
        "echo \"$# $1 $2 $3 $4 $CPLB_FROM $CPLB_TO $CPLB_VIRTUAL_IPS\" >> {}",
        log.display()
    );
    let mut keeper = keeper(vec![exec(&text, 5000)]);
    let fault = (
        State::Active,
        State::Initialize,
        Reason::Fault(FaultReason::InterfaceDown),
    );
    let mut all = vec![UP, TAKES];
    keeper.take(&roles(view(&all)));
    keeper.take(&roles(view(&all)));
    all.extend([fault, UP, TAKES, LEAVES, LEFT]);
    keeper.take(&roles(view(&all)));
    keeper.finish(None).await;
    let told = until_there(&log, 6).await;
    let vips = "192.0.2.1/24";
    assert_eq!(
        told,
        [
            format!("4 INSTANCE api BACKUP 150 Initialize Backup {vips}\n"),
            format!("4 INSTANCE api MASTER 150 Backup Active {vips}\n"),
            format!("4 INSTANCE api FAULT 150 Active Initialize {vips}\n"),
            format!("4 INSTANCE api BACKUP 150 Initialize Backup {vips}\n"),
            format!("4 INSTANCE api MASTER 150 Backup Active {vips}\n"),
            format!("4 INSTANCE api STOP 150 Leaving Initialize {vips}\n"),
        ]
        .concat()
    );
}

#[tokio::test]
async fn a_socket_gets_lines_of_json_and_only_of_the_states_that_it_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("events.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let hook = Hook {
        listener: Listener::Socket(path.display().to_string()),
        on: vec![Told::Master, Told::Stop],
        timeout: Duration::from_secs(5),
    };
    let mut keeper = keeper(vec![hook]);
    keeper.take(&roles(view(&[UP, TAKES])));
    let line = async || {
        let (stream, _) = listener.accept().await.unwrap();
        let line = BufReader::new(stream).lines().next_line().await.unwrap().unwrap();
        serde_json::from_str::<serde_json::Value>(&line).unwrap()
    };
    let told = line().await;
    assert_eq!(
        told,
        serde_json::json!({
            "type": "INSTANCE", "name": "api", "state": "MASTER", "priority": 150, "from": "Backup", "to": "Active",
            "reason": "nothing was heard for Active_Down_Interval", "vrid": 51, "interface": null,
            "virtualIPs": ["192.0.2.1/24"], "at": "2023-11-14T22:13:20.002Z",
        })
    );
    // Taken out of the file: it lets go, and its last view was never published.
    keeper.take(&RoleView::default());
    let told = line().await;
    assert_eq!(
        (&told["state"], &told["reason"]),
        (&"STOP".into(), &"it was taken out of the file".into())
    );
}

#[tokio::test]
async fn a_hook_that_hangs_is_given_up_and_holds_up_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let quick = exec(&format!("echo $3 >> {}", log.display()), 5000);
    let mut keeper = keeper(vec![exec("sleep 600", 300), quick]);
    keeper.take(&roles(view(&[UP, TAKES])));
    assert_eq!(until_there(&log, 2).await, "BACKUP\nMASTER\n");
    keeper.finish(None).await;
}

#[tokio::test]
async fn a_queue_keeps_the_newest() {
    let queue = Queue::default();
    let view = view(&[TAKES]);
    for n in 0..queue::ROOM + 10 {
        let mut event = Event::gone(&view);
        event.reason = n.to_string();
        queue.push(event);
    }
    let (first, dropped) = queue.next().await.unwrap();
    assert_eq!((first.reason.as_str(), dropped), ("10", 10));
    queue.close();
    let mut left = 0;
    while let Some((_, dropped)) = queue.next().await {
        assert_eq!(dropped, 0);
        left += 1;
    }
    assert_eq!(left, queue::ROOM - 1);
}
