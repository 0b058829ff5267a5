//! Reading of text tables: what is recognised from the first lines, missing values, times, and errors that name the
//! place.

use s4_data::*;
use std::io::Read;

fn parsed_table(text: &str) -> Table {
    parse_table(text.as_bytes(), &TableOptions::default()).unwrap()
}

fn numbers<'a>(table: &'a Table, name: &str) -> &'a [f64] {
    match &table.column(name).unwrap_or_else(|| panic!("no column {name}")).values {
        ColumnValues::Numbers(values) => values,
        other => panic!("{name}: {other:?}"),
    }
}

fn times<'a>(table: &'a Table, name: &str) -> &'a [i64] {
    match &table.column(name).unwrap().values {
        ColumnValues::Times(values) => values,
        other => panic!("{name}: {other:?}"),
    }
}

fn error_of(text: &str, options: &TableOptions) -> DataError {
    let error = parse_table(text.as_bytes(), options).unwrap_err();
    assert!(!error.reason.is_empty());
    error
}

const HOUR: i64 = 3_600_000;

#[test]
fn columns_of_every_kind() {
    let table = parsed_table("date,load,name\n1970-01-01 00:00:00,1.5,ann\n1970-01-01 01:00:00,,bob\n");
    assert_eq!(times(&table, "date"), [0, HOUR]);
    assert!(numbers(&table, "load")[0] == 1.5 && numbers(&table, "load")[1].is_nan());
    assert_eq!(table.column("load").unwrap().missing, [false, true]);
    assert_eq!(table.column("name").unwrap().values, ColumnValues::Text(vec!["ann".into(), "bob".into()]));
    assert_eq!((table.rows(), &table.lines[..]), (2, &[2, 3][..]));
}

#[test]
fn separators_and_decimal_signs_are_found() {
    for text in ["a;b\n1,5;2\n-2,25;3\n", "a\tb\n1.5\t2\n-2.25\t3\n", "a|b\r\n1.5|2\r\n-2.25|3\r\n"] {
        let table = parsed_table(text);
        assert_eq!(
            (numbers(&table, "a"), numbers(&table, "b")),
            (&[1.5, -2.25][..], &[2.0, 3.0][..]),
            "{text}"
        );
    }
    // Without a header too, a decimal comma must not be taken for a separator.
    let table = parsed_table("2020;1,5\n2021;2,5\n");
    assert_eq!(numbers(&table, "2"), [1.5, 2.5]);
    assert_eq!(read_series("2020;1,5\n2021;2,5\n"), [1.5, 2.5]);
    // Quoted separators are text; so is a line break in quotes.
    let table = parsed_table("name,x\n\"a, b\",1\n\"c\nd\",2\n");
    assert_eq!(table.column("name").unwrap().values, ColumnValues::Text(vec!["a, b".into(), "c\nd".into()]));
    assert_eq!(table.lines, [2, 3]);
    let comma = TableOptions { decimal: Some(Decimal::Comma), delimiter: Some(b';'), ..Default::default() };
    let failed = error_of("x;y\n1,5;1\n2,5;1\n1.234,5;1\n", &comma);
    assert_eq!((failed.row, failed.column.as_deref()), (Some(4), Some("x")));
    // A byte order mark is no part of the first name.
    assert_eq!(numbers(&parsed_table("\u{FEFF}x,y\n1,2\n3,4\n"), "x"), [1.0, 3.0]);
}

fn read_series(text: &str) -> Vec<f64> {
    parse_csv(text.as_bytes(), &CsvOptions::default()).unwrap()
}

#[test]
fn blank_lines_of_one_column_are_missing_values() {
    let table = parsed_table("x\n1\n\n\n4\n5\n\n\n");
    assert_eq!(table.column("x").unwrap().missing, [false, true, true, false, false]);
    assert_eq!(table.lines, [2, 3, 4, 5, 6]);
    let options = CsvOptions { gaps: Gaps::Linear, ..Default::default() };
    assert_eq!(parse_csv("1\n\n\n4\n".as_bytes(), &options).unwrap(), [1.0, 2.0, 3.0, 4.0]);
    let failed = parse_csv("x\r\n1\r\n\r\n4\r\n".as_bytes(), &CsvOptions::default()).unwrap_err();
    assert_eq!((failed.row, failed.column.as_deref()), (Some(3), Some("x")));
    // In a table of several columns an empty line is skipped.
    assert_eq!(numbers(&parsed_table("a,b\n1,2\n\n3,4\n"), "a"), [1.0, 3.0]);
}

#[test]
fn headers_are_found_or_refused() {
    assert_eq!(read_series("1\n2\n"), [1.0, 2.0]);
    assert_eq!(read_series("x\n1\n2\n"), [1.0, 2.0]);
    // A bad first value is no name.
    let failed = parse_csv("1x\n2\n3\n".as_bytes(), &CsvOptions::default()).unwrap_err();
    assert_eq!(failed.row, Some(1));
    // Names and numbers in one line may be either.
    for text in ["date,2019,2020\n2020-01-01,5,6\n2020-01-02,7,8\n", "abc,1\n2,3\n4,5\n"] {
        let failed = error_of(text, &TableOptions::default());
        assert!(failed.row == Some(1) && failed.reason.contains("header"), "{failed}");
        let told = TableOptions { header: Some(true), ..Default::default() };
        assert_eq!(parse_table(text.as_bytes(), &told).unwrap().rows(), 2);
    }
    let told = TableOptions { header: Some(true), ..Default::default() };
    assert_eq!(numbers(&parse_table("2019,2020\n5,6\n".as_bytes(), &told).unwrap(), "2020"), [6.0]);
    // Words beside numbers are data where they are data in every line.
    assert_eq!(numbers(&parsed_table("ann,1\nbob,2\n"), "2"), [1.0, 2.0]);
    // A name that begins with a digit is a name among names.
    assert_eq!(
        numbers(&parsed_table("time,2m_temperature\n2020-01-01,280.5\n2020-01-02,281\n"), "2m_temperature")
            .len(),
        2
    );
    assert_eq!(parsed_table("a,b\n").rows(), 0);
}

#[test]
fn missing_words() {
    let options = TableOptions { missing: vec!["-9999".into(), "?".into()], ..Default::default() };
    let table = parse_table("x,y\n1,?\n-9999,2\nNaN,NA\nnull,None\n".as_bytes(), &options).unwrap();
    assert_eq!(table.column("x").unwrap().missing, [false, true, true, true]);
    assert_eq!(table.column("y").unwrap().missing, [true, false, true, true]);
    assert_eq!(error_of("x,y\n1,2\n1,2\n?,2\n", &TableOptions::default()).row, Some(4));
}

#[test]
fn times_in_many_forms() {
    let one = |text: &str, options: &TableOptions| {
        let table = parse_table(format!("t,x\n{text},1\n").as_bytes(), options)?;
        assert!(matches!(table.columns[0].values, ColumnValues::Times(_)), "{text}: {table:?}");
        Ok::<i64, DataError>(times(&table, "t")[0])
    };
    let plain = TableOptions::default();
    for (text, hours) in [
        ("1970-01-02", 24),
        ("1970-01-02T03:00", 27),
        ("1970-01-02 03:00:00", 27),
        ("1970-01-02T03:00:00Z", 27),
        ("1970-01-02T03:00:00+02:00", 25),
        ("1970-01-02 03:00:00-05:00", 32),
        ("1970-01-02T03:00:00+01:00[Europe/Paris]", 26),
        ("1970-02", 24 * 31),
        ("1970/01/02 03:00", 27),
        ("02.01.1970", 24),
        ("02.01.1970 03:00", 27),
    ] {
        assert_eq!(one(text, &plain), Ok(hours * HOUR), "{text}");
    }
    let berlin = TableOptions { zone: Some("Europe/Berlin".into()), ..Default::default() };
    // Winter is an hour ahead of UTC, summer two.
    assert_eq!(one("2021-01-01 12:00", &berlin), Ok(one("2021-01-01 11:00", &plain).unwrap()));
    assert_eq!(one("2021-07-01 12:00", &berlin), Ok(one("2021-07-01 10:00", &plain).unwrap()));
    let american = TableOptions { time_format: Some("%m/%d/%Y %H:%M".into()), ..Default::default() };
    assert_eq!(one("01/02/1970 03:00", &american), Ok(27 * HOUR));
    let months = TableOptions { time_format: Some("%m/%Y".into()), ..Default::default() };
    assert_eq!(one("02/1970", &months), Ok(31 * 24 * HOUR));
    let nowhere = TableOptions { zone: Some("Mars/Olympus".into()), ..Default::default() };
    assert!(one("1970-01-02", &nowhere).unwrap_err().reason.contains("Mars/Olympus"));
    let failed = error_of("t,x\n2020-01-30,1\n2020-01-31,1\n2020-01-32,1\n", &plain);
    assert_eq!((failed.row, failed.column.as_deref()), (Some(4), Some("t")));
}

#[test]
fn pieces_are_the_whole() {
    /// Gives a byte at a time.
    struct Slow<'a>(&'a [u8]);
    impl Read for Slow<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let count = self.0.len().min(buffer.len()).min(1);
            buffer[..count].copy_from_slice(&self.0[..count]);
            self.0 = &self.0[count..];
            Ok(count)
        }
    }
    let mut text = "t,a,b\n".to_owned();
    (0..500)
        .for_each(|i| text += &format!("2020-01-01 {:02}:{:02},{i},{}\n", i / 60, i % 60, i as f64 / 3.0));
    let whole = parsed_table(&text);
    let mut reader = TableReader::new(Slow(text.as_bytes()), &TableOptions::default()).unwrap();
    assert_eq!(reader.names().collect::<Vec<_>>(), ["t", "a", "b"]);
    let (mut b, mut lines) = (Vec::new(), Vec::new());
    while let Some(piece) = reader.next_rows(7).unwrap() {
        assert!((1..=7).contains(&piece.rows()));
        b.extend_from_slice(numbers(&piece, "b"));
        lines.extend(piece.lines);
    }
    assert_eq!((b.as_slice(), lines.as_slice()), (numbers(&whole, "b"), &whole.lines[..]));
    assert!(reader.next_rows(7).unwrap().is_none());
}

#[test]
fn chosen_columns_come_in_their_order() {
    let columns = vec![
        (Column::Last, ColumnKind::Text),
        (Column::Name("a".into()), ColumnKind::Number),
        (Column::Index(1), ColumnKind::Auto),
    ];
    let options = TableOptions { columns: Some(columns), ..Default::default() };
    let table = parse_table("a,b,c\n1,x,3\n".as_bytes(), &options).unwrap();
    let names: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["c", "a", "b"]);
    assert_eq!(table.columns[0].values, ColumnValues::Text(vec!["3".into()]));
    assert_eq!(table.columns[2].values, ColumnValues::Text(vec!["x".into()]));
}

#[test]
fn errors_name_file_row_and_column() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("bad.csv");
    std::fs::write(&path, "a,b\n1,2\n3,4\n5,six\n").unwrap();
    let failed = read_table(&path, &TableOptions::default()).unwrap_err();
    assert_eq!(failed.path.as_deref(), Some(path.to_str().unwrap()));
    assert_eq!((failed.row, failed.column.as_deref()), (Some(4), Some("b")));
    let text = failed.to_string();
    assert!(text.contains("bad.csv: row 4, column b: ") && text.contains("six"), "{text}");
    assert!(read_table(folder.path().join("none.csv"), &TableOptions::default()).unwrap_err().path.is_some());
    let plain = TableOptions::default();
    assert_eq!(error_of("a,b\n1,2\n1,2,3\n", &plain).row, Some(3));
    assert_eq!(error_of("a,b\n1,2\n1,inf\n", &plain).row, Some(3));
    assert_eq!(error_of("a,b\n1,2\n1,1e999\n", &plain).row, Some(3));
    for empty in ["", "\n\n", "\u{FEFF}"] {
        assert!(error_of(empty, &plain).reason.contains("empty"), "{empty:?}");
    }
    let utf16: Vec<u8> = [0xFF, 0xFE].into_iter().chain("a,b\n1,2\n".bytes().flat_map(|b| [b, 0])).collect();
    assert!(parse_table(&utf16[..], &plain).unwrap_err().reason.contains("UTF-16"));
    let long = "1".repeat(3 << 20);
    assert!(error_of(&long, &plain).row.is_some());
}
