//! The verifier's log, kept to what helps: it may be hundreds of kilobytes, and what was wrong stands in its last lines.

/// So many lines are kept.
const LINES: usize = 8;
/// A line is kept so long.
const WIDTH: usize = 160;

/// The end of a log: the verdict, the instruction that it is about and the line of source before it. Dumps of registers
/// and the statistics are left out. Empty where there was no log.
pub(super) fn digest(log: &str) -> String {
    let useful = |line: &&str| {
        // `;` alone: compiled code without a line of source.
        let line = line.trim_matches([' ', ';']);
        !(line.is_empty() || is_registers(line) || is_statistics(line))
    };
    let mut kept: Vec<String> = log.lines().rev().filter(useful).take(LINES).map(cut).collect();
    kept.reverse();
    kept.join("\n")
}

/// `R0=inv(id=0) R1=...`, `; R2_w=pkt(...)` or `from 12 to 34: R0=...`.
fn is_registers(line: &str) -> bool {
    let line = line.trim_start_matches(['(', ';', ' ']);
    let line = match line.split_once(": ") {
        Some((at, rest)) if at.starts_with("from ") || at.chars().all(|c| c.is_ascii_digit()) => rest,
        _ => line,
    };
    let mut chars = line.chars();
    let name: String = line.chars().take_while(|c| *c != '=' && *c != ' ').collect();
    chars.next() == Some('R')
        && line.get(name.len()..).is_some_and(|rest| rest.starts_with('='))
        && name.chars().nth(1).is_some_and(|c| c.is_ascii_digit())
}

fn is_statistics(line: &str) -> bool {
    line.starts_with("processed ")
        || line.starts_with("verification time ")
        || line.starts_with("stack depth ")
}

fn cut(line: &str) -> String {
    let line = line.trim_end();
    if line.chars().count() <= WIDTH {
        return format!("  {line}");
    }
    let head: String = line.chars().take(WIDTH).collect();
    format!("  {head}...")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_its_instruction_and_its_source_line_are_kept() {
        let log = "\
func#0 @0
;
0: R1=ctx() R10=fp0
; let data = ctx.data(); @ parse.rs:12
0: (61) r2 = *(u32 *)(r1 +0)          ; R1=ctx() R2_w=pkt(r=0)
from 7 to 12: R0=0 R1=ctx() R2=pkt(r=0)
; let x = *(data as *const u8); @ parse.rs:13
12: R1=ctx() R2=pkt(r=0)
12: (71) r0 = *(u8 *)(r2 +0)
;
invalid access to packet, off=0 size=1, R2(id=0,off=0,r=0)
R2 offset is outside of the packet
verification time 412 usec
stack depth 0
processed 3 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
";
        let text = digest(log);
        assert!(
            text.contains("; let x = *(data as *const u8); @ parse.rs:13\n"),
            "{text}"
        );
        assert!(text.contains("12: (71) r0 = *(u8 *)(r2 +0)\n"), "{text}");
        assert!(text.ends_with("R2 offset is outside of the packet"), "{text}");
        assert!(text.lines().all(|l| l.trim() != ";"), "{text}");
        for left_out in ["R1=ctx() R2=pkt", "processed", "verification time", "stack depth"] {
            assert!(!text.contains(left_out), "{text}");
        }
    }

    #[test]
    fn of_a_long_log_the_end_is_kept() {
        let mut log: String = (0..20_000).map(|i| format!("{i}: (bf) r1 = r2\n")).collect();
        log.push_str(&"x".repeat(5000));
        let text = digest(&log);
        assert_eq!(text.lines().count(), LINES);
        assert!(text.len() < LINES * (WIDTH + 10), "{}", text.len());
        assert!(text.contains("19999: (bf)"));
    }

    #[test]
    fn no_log_is_no_words() {
        assert_eq!(digest(""), "");
        assert_eq!(digest("\n  \n"), "");
    }
}
