//! Runs an operator's program: as somebody else, in a process group of its own, for so long and no longer.
//!
//! What it must not inherit is taken from it between fork and exec: privileges, the daemon's protection from the
//! out-of-memory killer, and its life (it dies with the daemon). Its output is read and thrown away beyond a few lines, so
//! that a program that talks a lot neither blocks nor costs memory.
#![expect(unsafe_code, reason = "what happens between fork and exec has no safe form")]

use super::accounts::{self, User};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, Uid};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

/// So much of what a program says is kept.
const KEPT: usize = 2048;
/// Where programs are looked for by those that we start; they themselves are named by their path.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long what was written last is waited for after a program's end.
const LAST_WORDS: Duration = Duration::from_millis(50);
/// Linux's `nobody`, for hosts without a list of accounts.
const NOBODY: u32 = 65_534;

/// What to run.
#[derive(Debug)]
pub struct Job<'a> {
    /// The program's path, then its arguments.
    pub command: Vec<&'a str>,
    /// As whom; `None`: `nobody`. A daemon that is not root runs it as itself.
    pub user: Option<&'a str>,
    /// Its environment, beside PATH: nothing of ours.
    pub environment: Vec<(&'static str, String)>,
    /// When it is killed with everything in its process group.
    pub timeout: Duration,
    /// Whether what it leaves running in its group at its own end may stay.
    pub may_leave: bool,
}

/// How it went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status, where it ended by itself.
    pub code: Option<i32>,
    /// How it ended, as the end of a sentence: "ended with 1".
    pub how: String,
    /// The first lines that it wrote, standard output before standard error.
    pub output: String,
}

/// It could not be run at all: that says nothing about what it was to find out.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// There is no such user.
    #[error("there is no user {0:?}")]
    NoUser(String),
    /// This process cannot become another user.
    #[error("only root can run a program as {0}, and this daemon is not root")]
    NotRoot(String),
    /// The list of users cannot be read.
    #[error("the list of users cannot be read")]
    Users(#[source] io::Error),
    /// There is no such program, or it may not be run.
    #[error("{program} cannot be started: {error}")]
    Start {
        /// Its path.
        program: String,
        /// Why.
        error: io::Error,
    },
    /// The kernel does not say how it ended.
    #[error("waiting for it failed: {0}")]
    Wait(io::Error),
}

/// As whom a program runs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Account {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

/// Runs it to its end or to its time limit. When this is dropped, it and its process group are killed.
///
/// # Errors
/// It could not be run.
pub async fn run(job: &Job<'_>) -> Result<Ended, RunError> {
    let user = job.user.map(str::to_owned);
    // The list of users may be behind a name service that takes its time.
    let account = tokio::task::spawn_blocking(move || account(user.as_deref()))
        .await
        .map_err(|e| RunError::Wait(io::Error::other(e)))??;
    let mut group = Group::start(job, account)?;
    let out = group.child.stdout.take().map(|s| tokio::spawn(first_lines(s)));
    let err = group.child.stderr.take().map(|s| tokio::spawn(first_lines(s)));
    let waited = tokio::time::timeout(job.timeout, group.child.wait()).await;
    let (code, how) = match waited {
        Ok(Ok(status)) => {
            group.armed = !job.may_leave;
            match (status.code(), status.signal()) {
                (Some(code), _) => (Some(code), format!("ended with {code}")),
                (None, signal) => (None, format!("was ended by signal {}", signal.unwrap_or(0))),
            }
        }
        Ok(Err(e)) => return Err(RunError::Wait(e)),
        Err(_) => (
            None,
            format!("did not end within {:?} and was killed", job.timeout),
        ),
    };
    drop(group);
    let mut output = String::new();
    for reader in [out, err].into_iter().flatten() {
        output.push_str(&last_words(reader).await);
    }
    Ok(Ended { code, how, output })
}

async fn last_words(mut reader: tokio::task::JoinHandle<String>) -> String {
    match tokio::time::timeout(LAST_WORDS, &mut reader).await {
        Ok(text) => text.unwrap_or_default(),
        Err(_) => {
            // Something that may stay holds the pipe.
            reader.abort();
            String::new()
        }
    }
}

async fn first_lines(mut from: impl AsyncRead + Unpin) -> String {
    let (mut kept, mut buffer) = (Vec::new(), [0; 1024]);
    while let Ok(n) = from.read(&mut buffer).await
        && n > 0
    {
        let room = KEPT.saturating_sub(kept.len()).min(n);
        kept.extend_from_slice(buffer.get(..room).unwrap_or_default());
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// A running program with its process group.
struct Group {
    child: Child,
    id: Option<i32>,
    /// The group is to be killed.
    armed: bool,
}

impl Group {
    fn start(job: &Job<'_>, account: Option<Account>) -> Result<Self, RunError> {
        let program = job.command.first().copied().unwrap_or_default();
        let mut command = Command::new(program);
        command
            .args(job.command.get(1..).unwrap_or_default())
            .env_clear()
            .env("PATH", PATH)
            .envs(job.environment.iter().map(|(k, v)| (*k, v.as_str())))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        // SAFETY: `settle` makes system calls and touches nothing that another thread could have locked: what it needs was
        // computed before the fork.
        unsafe {
            command.pre_exec(move || settle(account.as_ref()));
        }
        let child = command.spawn().map_err(|error| RunError::Start {
            program: program.to_owned(),
            error,
        })?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Ok(Self {
            child,
            id,
            armed: true,
        })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The group's number is the leader's, which nobody else can have while one of the group lives.
        if let Some(id) = self.id.filter(|_| self.armed) {
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

/// In the child, between fork and exec.
fn settle(account: Option<&Account>) -> io::Result<()> {
    // While it is still root: the file is the daemon's. A process that may be killed for memory is killed before it.
    write_file(c"/proc/self/oom_score_adj", b"0");
    let zero = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: each call reads plain integers or a structure that outlives it.
    unsafe {
        libc::setrlimit(libc::RLIMIT_CORE, &raw const zero);
        libc::umask(0o022);
        if let Some(a) = account
            && (libc::setgroups(a.groups.len(), a.groups.as_ptr()) != 0
                || libc::setgid(a.gid) != 0
                || libc::setuid(a.uid) != 0)
        {
            return Err(io::Error::last_os_error());
        }
        // Ambient capabilities pass exec; a daemon that systemd gave some must not hand them on. A kernel that does not know
        // them has none to take away.
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        if libc::geteuid() != 0 && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        // After the change of user, which resets it.
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
    }
    Ok(())
}

/// Without allocation. That it cannot be written is no reason not to run.
fn write_file(path: &std::ffi::CStr, text: &[u8]) {
    // SAFETY: the path ends in NUL, the buffer has the length given, and the descriptor is this function's own.
    unsafe {
        let fd = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd >= 0 {
            libc::write(fd, text.as_ptr().cast(), text.len());
            libc::close(fd);
        }
    }
}

/// `None`: this process cannot change its user, and stays who it is.
fn account(user: Option<&str>) -> Result<Option<Account>, RunError> {
    let name = user.unwrap_or("nobody");
    let root = Uid::effective().is_root();
    if !root && user.is_none() {
        return Ok(None);
    }
    let listed = accounts::user(name).map_err(RunError::Users)?;
    let found = listed.or_else(|| name.parse().ok().map(bare));
    match found {
        Some(user) if !root && user.uid == Uid::effective().as_raw() => Ok(None),
        Some(_) if !root => Err(RunError::NotRoot(name.to_owned())),
        Some(user) => Ok(Some(of(&user)?)),
        None if user.is_none() || name == "nobody" => Ok(Some(of(&bare(NOBODY))?)),
        None => Err(RunError::NoUser(name.to_owned())),
    }
}

/// A user that only has a number.
fn bare(uid: u32) -> User {
    User {
        name: String::new(),
        uid,
        gid: uid,
    }
}

fn of(user: &User) -> Result<Account, RunError> {
    Ok(Account {
        uid: user.uid,
        gid: user.gid,
        groups: accounts::groups(user).map_err(RunError::Users)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn shell<'a>(text: &'a str, timeout: u64) -> Job<'a> {
        Job {
            command: vec!["/bin/sh", "-c", text],
            user: None,
            environment: vec![("CPLB_SAID", "so".into())],
            timeout: Duration::from_millis(timeout),
            may_leave: false,
        }
    }

    #[tokio::test]
    async fn it_runs_as_nobody_with_nothing_of_ours() {
        if !Uid::effective().is_root() {
            return;
        }
        let text = "id -u; id -G; env | sort | grep -v ^_=; pwd; cat /proc/self/oom_score_adj; \
                    grep -c '^CapEff:.*0000000000000000' /proc/self/status; grep NoNewPrivs /proc/self/status | tr -d '\\t'";
        let ended = run(&shell(text, 5000)).await.unwrap();
        let wanted = format!("65534\n65534\nCPLB_SAID=so\nPATH={PATH}\nPWD=/\n/\n0\n1\nNoNewPrivs:1\n");
        assert_eq!((ended.code, ended.output.as_str()), (Some(0), wanted.as_str()));
    }

    #[tokio::test]
    async fn a_user_is_a_name_or_a_number_and_one_that_is_missing_is_said() {
        if !Uid::effective().is_root() {
            return;
        }
        for (user, id) in [("root", "0\n"), ("0", "0\n"), ("12345", "12345\n")] {
            let job = Job {
                user: Some(user),
                ..shell("id -u", 5000)
            };
            assert_eq!(run(&job).await.unwrap().output, id);
        }
        let job = Job {
            user: Some("no-such-user"),
            ..shell("true", 5000)
        };
        let error = run(&job).await.unwrap_err();
        assert_eq!(error.to_string(), "there is no user \"no-such-user\"");
    }

    #[tokio::test]
    async fn how_it_ended_and_what_it_said_is_known() {
        let ended = run(&shell("echo out; echo err >&2; exit 7", 5000)).await.unwrap();
        assert_eq!((ended.code, ended.how.as_str()), (Some(7), "ended with 7"));
        assert_eq!(ended.output, "out\nerr\n");
        let ended = run(&shell("kill -9 $$", 5000)).await.unwrap();
        assert_eq!((ended.code, ended.how.as_str()), (None, "was ended by signal 9"));
        let ended = run(&shell("yes | head -c 3000000; exit 3", 20_000))
            .await
            .unwrap();
        assert_eq!((ended.code, ended.output.len()), (Some(3), KEPT));
        let job = Job {
            command: vec!["/no/such/program"],
            ..shell("", 5000)
        };
        let error = run(&job).await.unwrap_err().to_string();
        assert!(
            error.starts_with("/no/such/program cannot be started: No such file"),
            "{error}"
        );
    }

    /// What it started itself goes as well.
    #[tokio::test]
    async fn at_its_time_limit_its_whole_group_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pid");
        let text = format!("sleep 600 & echo $! > {}; wait", file.display());
        let job = Job {
            user: Some("root"),
            ..shell(&text, 500)
        };
        let ended = run(&job).await.unwrap();
        assert_eq!(ended.code, None);
        assert!(ended.how.ends_with("and was killed"), "{}", ended.how);
        let pid = std::fs::read_to_string(&file).unwrap();
        let gone = || match std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())) {
            // One that is dead and not yet collected by whoever inherited it.
            Ok(stat) => stat.contains(") Z "),
            Err(_) => !Path::new(&format!("/proc/{}", pid.trim())).exists(),
        };
        for _ in 0..1000 {
            if gone() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it still runs");
    }
}
