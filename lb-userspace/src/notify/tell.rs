//! Tells one hook, event by event.
use super::Event;
use super::queue::Queue;
use crate::sys::command::{Job, run};
use lb_common::spec::{Hook, Listener};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

/// Until the queue is closed and empty.
pub(super) async fn all(hook: Hook, queue: Arc<Queue>) {
    while let Some((event, dropped)) = queue.next().await {
        let hook_name = name(&hook);
        if dropped > 0 {
            tracing::warn!(
                instance = %event.name,
                hook = hook_name,
                dropped,
                "a notify hook is too slow: it was not told of the oldest changes"
            );
        }
        if let Err(why) = one(&hook, &event).await {
            tracing::warn!(instance = %event.name, state = %event.told, hook = hook_name, why, "a notify hook failed");
        }
    }
}

fn name(hook: &Hook) -> &str {
    match &hook.listener {
        Listener::Exec(command) => command.program(),
        Listener::Socket(path) => path,
    }
}

async fn one(hook: &Hook, event: &Event) -> Result<(), String> {
    match &hook.listener {
        Listener::Exec(command) => {
            let arguments = event.arguments();
            let own = command.command.iter().map(String::as_str);
            let job = Job {
                command: own.chain(arguments.iter().map(String::as_str)).collect(),
                user: command.user.as_deref(),
                environment: event.environment(),
                timeout: hook.timeout,
                // Starting something that goes on is what some are for.
                may_leave: true,
            };
            let ended = run(&job).await.map_err(|e| e.to_string())?;
            if ended.code == Some(0) {
                Ok(())
            } else {
                Err(format!("it {}: {}", ended.how, ended.output.trim()))
            }
        }
        Listener::Socket(path) => {
            let write = async {
                let mut stream = UnixStream::connect(path).await?;
                stream.write_all(&event.line()).await?;
                stream.shutdown().await
            };
            match tokio::time::timeout(hook.timeout, write).await {
                Ok(done) => done.map_err(|e| e.to_string()),
                Err(_) => Err(format!("nobody read within {:?}", hook.timeout)),
            }
        }
    }
}
