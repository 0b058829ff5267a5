//! Text tables, read away from the JavaScript thread and on all cores.

use crate::{
    background::{Background, in_background},
    buffer::{Bytes, Data, copied_bytes},
    datasets::refused,
    error::to_js_result,
};
use napi::bindgen_prelude::{AsyncTask, Uint8Array};
use napi_derive::napi;
use s4_backend::{Error, Result};
use s4_data::{Column, ColumnKind, ColumnValues, DataError, Decimal, Table, TableOptions, TablePieces};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// A column that is to be read.
#[napi(object, object_to_js = false)]
pub struct ColumnChoice {
    /// Its name in the header; without it `index` says which.
    pub name: Option<String>,
    /// Its place from 0.
    pub index: Option<u32>,
    /// What its fields are; found out without.
    #[napi(ts_type = "'number' | 'time' | 'text'")]
    pub kind: Option<String>,
}

/// How a table is written; what is left open is found out.
#[napi(object, object_to_js = false)]
pub struct TableFormat {
    /// The columns, in this order; all without.
    pub columns: Option<Vec<ColumnChoice>>,
    /// What some of the columns that are read hold.
    pub kinds: Option<Vec<ColumnChoice>>,
    /// Whether the first line holds names.
    pub header: Option<bool>,
    /// The one byte between fields.
    pub delimiter: Option<String>,
    /// The sign before a fraction.
    #[napi(ts_type = "'.' | ','")]
    pub decimal: Option<String>,
    /// More words for a missing value.
    pub missing: Option<Vec<String>>,
    /// Zone of times without an offset.
    pub zone: Option<String>,
    /// Format of times, in the letters of strptime.
    pub time_format: Option<String>,
}

/// One column.
#[napi(object, object_from_js = false)]
pub struct ColumnData {
    /// Name in the header, or place from 1.
    pub name: String,
    /// Place in the file, from 0.
    pub index: u32,
    /// What it holds.
    #[napi(ts_type = "'number' | 'time' | 'text'")]
    pub kind: String,
    /// Numbers, or milliseconds since 1970; NaN where one is missing.
    #[napi(ts_type = "Float64Array")]
    pub numbers: Option<Data>,
    /// The different texts, in the order in which they first appear.
    pub texts: Option<Vec<String>>,
    /// For each row the place of its text in `texts`.
    #[napi(ts_type = "Int32Array")]
    pub codes: Option<Data>,
    /// For each row 1 where the value is missing; nothing where none is.
    #[napi(ts_type = "Uint8Array")]
    pub missing: Option<Bytes>,
}

/// A table, or some rows of one.
#[napi(object, object_from_js = false)]
pub struct TableData {
    /// All of equal length.
    pub columns: Vec<ColumnData>,
    /// Number of rows.
    pub rows: f64,
}

impl TableFormat {
    fn options(self, op: &'static str) -> Result<TableOptions> {
        let kind = |word: Option<String>| match word.as_deref() {
            None => Ok(ColumnKind::Auto),
            Some("number") => Ok(ColumnKind::Number),
            Some("time") => Ok(ColumnKind::Time),
            Some("text") => Ok(ColumnKind::Text),
            Some(other) => Err(Error::value(op, "a kind of column", other)),
        };
        let column = |choice: ColumnChoice| {
            let column = match (choice.name, choice.index) {
                (Some(name), _) => Column::Name(name),
                (None, Some(index)) => Column::Index(index as usize),
                (None, None) => Column::Last,
            };
            Ok((column, kind(choice.kind)?))
        };
        let choices = |list: Vec<ColumnChoice>| list.into_iter().map(column).collect::<Result<Vec<_>>>();
        Ok(TableOptions {
            columns: self.columns.map(choices).transpose()?,
            kinds: choices(self.kinds.unwrap_or_default())?,
            header: self.header,
            delimiter: self.delimiter.and_then(|text| text.bytes().next()),
            decimal: self.decimal.map(|sign| if sign == "," { Decimal::Comma } else { Decimal::Point }),
            missing: self.missing.unwrap_or_default(),
            zone: self.zone,
            time_format: self.time_format,
        })
    }
}

impl From<Table> for TableData {
    fn from(table: Table) -> Self {
        let rows = table.rows() as f64;
        let columns = table.columns.into_iter().map(|column| {
            let has_gaps = column.missing.contains(&true);
            let mut data = ColumnData {
                name: column.name,
                index: column.index as u32,
                kind: String::new(),
                numbers: None,
                texts: None,
                codes: None,
                missing: has_gaps.then(|| Bytes(column.missing.iter().map(|m| u8::from(*m)).collect())),
            };
            match column.values {
                ColumnValues::Numbers(values) => {
                    data.kind = "number".into();
                    data.numbers = Some(Data::F64(values));
                }
                ColumnValues::Times(values) => {
                    let times = values.iter().zip(&column.missing);
                    data.kind = "time".into();
                    data.numbers = Some(Data::F64(
                        times.map(|(t, gap)| if *gap { f64::NAN } else { *t as f64 }).collect(),
                    ));
                }
                ColumnValues::Text(values) => {
                    let mut places: HashMap<String, i32> = HashMap::new();
                    let mut texts = Vec::new();
                    let code = |text: String| match places.get(&text) {
                        Some(place) => *place,
                        None => {
                            let place = texts.len() as i32;
                            texts.push(text.clone());
                            places.insert(text, place);
                            place
                        }
                    };
                    let codes = values.into_iter().map(code).collect();
                    data.kind = "text".into();
                    data.codes = Some(Data::I32(codes));
                    data.texts = Some(texts);
                }
            }
            data
        });
        TableData { columns: columns.collect(), rows }
    }
}

/// A text table of a file.
#[napi(ts_return_type = "Promise<TableData>")]
pub fn read_table(path: String, format: TableFormat) -> napi::Result<AsyncTask<Background<TableData>>> {
    let options = to_js_result(|| format.options("readTable"))?;
    Ok(in_background(move || {
        let table = s4_data::read_table(&path, &options);
        table.map(TableData::from).map_err(|e| refused("readTable", "a table of equal rows", e))
    }))
}

/// A text table of the bytes of a file.
#[napi(ts_return_type = "Promise<TableData>")]
pub fn read_table_bytes(
    bytes: Uint8Array,
    format: TableFormat,
) -> napi::Result<AsyncTask<Background<TableData>>> {
    let (bytes, options) = to_js_result(|| Ok((copied_bytes(&bytes)?, format.options("readTable")?)))?;
    Ok(in_background(move || {
        let table = s4_data::read_table_bytes(&bytes, &options);
        table.map(TableData::from).map_err(|e| refused("readTable", "a table of equal rows", e))
    }))
}

/// A text table whose bytes come in pieces.
#[napi]
pub struct NativeTablePieces {
    pieces: Arc<Mutex<TablePieces>>,
    path: Option<String>,
}

#[napi]
impl NativeTablePieces {
    /// A table of which there are no bytes yet. `path` names it in errors.
    #[napi(constructor)]
    pub fn new(format: TableFormat, path: Option<String>) -> napi::Result<Self> {
        let options = to_js_result(|| format.options("tableRows"))?;
        Ok(NativeTablePieces { pieces: Arc::new(Mutex::new(TablePieces::new(options))), path })
    }

    /// The rows that are whole with these bytes; without bytes the last ones. One call at a time.
    #[napi(ts_return_type = "Promise<TableData | null>")]
    pub fn push(&self, bytes: Option<Uint8Array>) -> napi::Result<AsyncTask<Background<Option<TableData>>>> {
        let bytes = to_js_result(|| bytes.as_ref().map(copied_bytes).transpose())?;
        let (pieces, path) = (self.pieces.clone(), self.path.clone());
        Ok(in_background(move || {
            let mut pieces = pieces.lock().unwrap_or_else(PoisonError::into_inner);
            let rows = match bytes {
                Some(bytes) => pieces.push(&bytes),
                None => pieces.finish().map(Some),
            };
            let in_file = |e: DataError| match &path {
                Some(path) => e.in_file(Path::new(path)),
                None => e,
            };
            let rows = rows.map_err(|e| refused("tableRows", "a table of equal rows", in_file(e)))?;
            Ok(rows.map(TableData::from))
        }))
    }
}
