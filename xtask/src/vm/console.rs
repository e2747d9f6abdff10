//! What the guest says on its serial console: markers of `vm-init` between the output of the programs.
use std::time::Duration;

/// Starts a line of `vm-init`; nothing else writes it.
pub(crate) const MARK: &str = "@@cplb-vm ";

/// How one command of the guest ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) name: String,
    /// As a shell would say it: 128 + signal for one that was killed.
    pub(crate) code: i32,
    pub(crate) took: Duration,
}

/// A whole run of the guest.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// `vm-init` was reached and the modules are loaded.
    pub(crate) ready: bool,
    /// Every command that ended, in order.
    pub(crate) ended: Vec<Ended>,
    /// `vm-init` said that it powers off: nothing is missing.
    pub(crate) complete: bool,
}

/// A line of the console, told apart.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line<'a> {
    Ready,
    Started(&'a str),
    Ended(Ended),
    Complete,
    Output(&'a str),
}

impl<'a> Line<'a> {
    /// `MARK start NAME`, `MARK exit CODE MILLISECONDS NAME`, `MARK ready`, `MARK off`.
    pub(crate) fn parse(line: &'a str) -> Self {
        let Some(at) = line.find(MARK) else {
            return Self::Output(line);
        };
        let rest = &line[at + MARK.len()..];
        let mut words = rest.splitn(4, ' ');
        match (words.next(), words.next()) {
            (Some("ready"), None) => Self::Ready,
            (Some("off"), None) => Self::Complete,
            (Some("start"), Some(_)) => Self::Started(&rest["start ".len()..]),
            (Some("exit"), Some(code)) => {
                ended(code, words.next(), words.next()).map_or(Self::Output(line), Self::Ended)
            }
            _ => Self::Output(line),
        }
    }
}

fn ended(code: &str, ms: Option<&str>, name: Option<&str>) -> Option<Ended> {
    let took = Duration::from_millis(ms?.parse().ok()?);
    Some(Ended {
        name: name?.to_owned(),
        code: code.parse().ok()?,
        took,
    })
}

impl Report {
    pub(crate) fn take(&mut self, line: &Line<'_>) {
        match line {
            Line::Ready => self.ready = true,
            Line::Complete => self.complete = true,
            Line::Ended(ended) => self.ended.push(ended.clone()),
            Line::Started(_) | Line::Output(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_told_from_output() {
        assert_eq!(Line::parse("@@cplb-vm ready"), Line::Ready);
        assert_eq!(Line::parse("@@cplb-vm start a b"), Line::Started("a b"));
        let ended = Ended {
            name: "a b".into(),
            code: 137,
            took: Duration::from_millis(20),
        };
        assert_eq!(
            Line::parse("tail without newline@@cplb-vm exit 137 20 a b"),
            Line::Ended(ended)
        );
        assert_eq!(
            Line::parse("@@cplb-vm exit x 20 a"),
            Line::Output("@@cplb-vm exit x 20 a")
        );
        assert_eq!(Line::parse("plain"), Line::Output("plain"));
    }
}
