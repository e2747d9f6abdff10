//! What was measured, as Markdown for people or as JSON for programs.
use crate::spread::Spread;
use lb_tests::bench::table;
use serde_json::{Map, Value, json};

/// A table.
#[derive(Debug)]
pub(crate) struct Section {
    key: &'static str,
    title: String,
    rows: Vec<Row>,
}

/// A row of it.
#[derive(Debug)]
pub(crate) struct Row {
    name: String,
    cells: Vec<(String, Cell)>,
}

#[derive(Debug)]
enum Cell {
    Figure(Spread, usize),
    Ratio(f64),
    Text(String),
    Reach(String, bool),
}

const REACH: &str = "reach";
const NOT_MEASURED: &str = "notMeasured";

impl Section {
    pub(crate) fn new(key: &'static str, title: &str, rows: Vec<Row>) -> Self {
        Self {
            key,
            title: title.to_owned(),
            rows,
        }
    }

    /// For people. A column is there if any row has it.
    pub(crate) fn markdown(&self) -> String {
        let mut head = vec!["work".to_owned()];
        for (label, _) in self.rows.iter().flat_map(|row| &row.cells) {
            if !head.contains(label) {
                head.push(label.clone());
            }
        }
        // Last, whichever row has it first.
        if let Some(at) = head.iter().position(|label| label == REACH) {
            let reach = head.remove(at);
            head.push(reach);
        }
        let rows: Vec<Vec<String>> = self.rows.iter().map(|row| row.columns(&head)).collect();
        let head: Vec<&str> = head.iter().map(String::as_str).collect();
        format!("{}:\n{}", self.title, table(&head, &rows))
    }

    /// Rows that could not be measured, and why.
    pub(crate) fn not_measured(rows: Vec<Row>) -> Self {
        Self::new(NOT_MEASURED, "Not measured", rows)
    }

    /// Whether it is not such a list.
    pub(crate) fn is_measured(&self) -> bool {
        self.key != NOT_MEASURED
    }

    /// For programs.
    pub(crate) fn json(&self) -> (String, Value) {
        (self.key.to_owned(), self.rows.iter().map(Row::json).collect())
    }
}

impl Row {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            cells: Vec::new(),
        }
    }

    /// A figure, shown with so many decimals.
    pub(crate) fn cell(&mut self, label: &str, spread: Spread, decimals: usize) {
        self.push(label, Cell::Figure(spread, decimals));
    }

    /// One figure divided by another.
    pub(crate) fn ratio(&mut self, label: &str, ratio: f64) {
        self.push(label, Cell::Ratio(ratio));
    }

    /// Anything else.
    pub(crate) fn text(&mut self, label: &str, text: &str) {
        self.push(label, Cell::Text(text.to_owned()));
    }

    /// What was to be reached, and whether it was.
    pub(crate) fn reach(&mut self, wanted: &str, met: bool) {
        self.push(REACH, Cell::Reach(wanted.to_owned(), met));
    }

    fn push(&mut self, label: &str, cell: Cell) {
        self.cells.push((label.to_owned(), cell));
    }

    fn columns(&self, head: &[String]) -> Vec<String> {
        let find = |label: &String| {
            let found = self.cells.iter().find(|(own, _)| own == label);
            found.map_or_else(String::new, |(_, cell)| cell.shown())
        };
        let rest = head.iter().skip(1).map(find);
        std::iter::once(self.name.clone()).chain(rest).collect()
    }

    fn json(&self) -> Value {
        let mut row = Map::new();
        row.insert("work".into(), json!(self.name));
        for (label, cell) in &self.cells {
            row.insert(camel(label), cell.json());
        }
        Value::Object(row)
    }
}

/// A column's name as a key of JSON: `of IPVS, 65,536 flows` is `ofIPVS65536Flows`.
fn camel(label: &str) -> String {
    let label = label.replace(',', "");
    let words = label.split(|c: char| !c.is_ascii_alphanumeric());
    let mut key = String::new();
    for word in words.filter(|word| !word.is_empty()) {
        let mut letters = word.chars();
        if let Some(first) = letters.next().filter(|_| !key.is_empty()) {
            key.push(first.to_ascii_uppercase());
            key.push_str(letters.as_str());
        } else {
            key.push_str(word);
        }
    }
    key
}

impl Cell {
    fn shown(&self) -> String {
        match self {
            Self::Figure(spread, decimals) => spread.shown(*decimals),
            Self::Ratio(ratio) => format!("{ratio:.2}"),
            Self::Text(text) => text.clone(),
            Self::Reach(wanted, met) => format!("{wanted}: {}", if *met { "reached" } else { "MISSED" }),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Figure(spread, _) => json!(spread),
            Self::Ratio(ratio) => json!(ratio),
            Self::Text(text) => json!(text),
            Self::Reach(wanted, met) => json!({"wanted": wanted, "reached": met}),
        }
    }
}

/// Says on standard error how far it is.
pub(crate) fn progress(what: impl AsRef<str>) {
    eprint!("\r{:<60}", what.as_ref());
}

/// Prints it all: tables, or one line of JSON.
pub(crate) fn print(sections: &[Section], as_json: bool) {
    eprintln!();
    if as_json {
        let all: Map<String, Value> = sections.iter().map(Section::json).collect();
        println!("{}", Value::Object(all));
        return;
    }
    for section in sections {
        println!("{}", section.markdown());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_keys_too() {
        assert_eq!(camel("of IPVS, 65,536 flows"), "ofIPVS65536Flows");
        assert_eq!(camel("ratio"), "ratio");
    }

    #[test]
    fn columns_of_any_row_are_there_and_the_reach_is_last() {
        let mut one = Row::new("one");
        one.reach("40 ns", false);
        let mut two = Row::new("two");
        two.ratio("ratio", 0.5);
        let section = Section::new("key", "Title", vec![one, two]);
        let text = section.markdown();
        assert!(text.contains("| work | ratio | reach"), "{text}");
        assert!(text.contains("40 ns: MISSED") && text.contains("0.50"), "{text}");
        let (key, rows) = section.json();
        assert_eq!(key, "key");
        assert_eq!(rows[0]["reach"], json!({"wanted": "40 ns", "reached": false}));
    }
}
