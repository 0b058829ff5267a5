//! Splits, scales and calendars of data in memory.

use crate::{buffer::Data, error::to_js_result};
use napi::bindgen_prelude::{Float64Array, Int32Array};
use napi_derive::napi;
use s4_backend::{Code, Error, Result};
use s4_data::{CalendarField, DataError, Scaler, Scaling};

/// `ERR_S4_DATA` for data that `op` cannot use.
pub(crate) fn refused(op: &'static str, expected: &str, error: DataError) -> Error {
    Error::new(Code::Data, op, expected, error)
}

/// Parts of `count` rows by ratios that sum to 1: in their order, or by `seed` at random, where `by` says how: every part with the same
/// share of each of `keys` (`label`), or every key in one part (`group`). Gives the rows of each part.
#[napi(ts_return_type = "Array<Int32Array>")]
pub fn split_rows(
    count: u32,
    ratios: Float64Array,
    #[napi(ts_arg_type = "'order' | 'random' | 'label' | 'group'")] by: String,
    keys: Int32Array,
    seed: f64,
) -> napi::Result<Vec<Data>> {
    to_js_result(|| {
        let (count, seed) = (count as usize, seed as u64);
        let split = match by.as_str() {
            "order" => s4_data::split_in_order(count, &ratios)
                .map(|ranges| ranges.into_iter().map(Vec::from_iter).collect()),
            "random" => s4_data::split_at_random(count, &ratios, seed),
            "label" => s4_data::split_by_label(&keys, &ratios, seed),
            _ => s4_data::split_by_group(&keys, &ratios, seed),
        };
        let parts: Vec<Vec<usize>> = split.map_err(|e| refused("split", "parts with rows", e))?;
        Ok(parts.into_iter().map(|rows| Data::I32(rows.into_iter().map(|r| r as i32).collect())).collect())
    })
}

/// The first row of each part after the first, by times (milliseconds, ascending) that the parts begin at.
#[napi(ts_return_type = "Int32Array")]
pub fn split_times(times: Float64Array, bounds: Float64Array) -> napi::Result<Data> {
    to_js_result(|| {
        let whole = |x: &Float64Array| x.iter().map(|t| *t as i64).collect::<Vec<_>>();
        let parts = s4_data::split_at_times(&whole(&times), &whole(&bounds));
        let parts = parts.map_err(|e| refused("split", "parts with rows, in the order of time", e))?;
        Ok(Data::I32(parts.iter().skip(1).map(|range| range.start as i32).collect()))
    })
}

/// What is subtracted from each column and what it is then divided by.
#[napi(object, object_from_js = false)]
pub struct Scales {
    /// One for each column.
    #[napi(ts_type = "Float64Array")]
    pub offset: Data,
    /// One for each column, above 0.
    #[napi(ts_type = "Float64Array")]
    pub scale: Data,
}

/// The scales of columns, NaN where a value is missing.
#[napi]
pub fn fit_scales(
    columns: Vec<Float64Array>,
    #[napi(ts_arg_type = "'zScore' | 'minMax' | 'robust'")] scaling: String,
) -> napi::Result<Scales> {
    to_js_result(|| {
        let columns: Vec<&[f64]> = columns.iter().map(|c| &c[..]).collect();
        let scaling = match scaling.as_str() {
            "minMax" => Scaling::MinMax,
            "robust" => Scaling::Robust,
            _ => Scaling::ZScore,
        };
        let fitted = Scaler::fit_columns(&columns, scaling);
        let Scaler { offset, scale } = fitted.map_err(|e| refused("Scaler.fit", "columns with values", e))?;
        Ok(Scales { offset: Data::F64(offset), scale: Data::F64(scale) })
    })
}

/// The parts of dates and times of day: (times, fields), row-major, integers from 0.
#[napi(ts_return_type = "Int32Array")]
pub fn calendar_fields(
    times: Float64Array,
    #[napi(ts_arg_type = "Array<'minute' | 'hour' | 'weekday' | 'day' | 'dayOfYear' | 'month'>")] fields: Vec<
        String,
    >,
    zone: Option<String>,
) -> napi::Result<Data> {
    to_js_result(|| {
        let field = |name: &String| {
            Ok(match name.as_str() {
                "minute" => CalendarField::Minute,
                "hour" => CalendarField::Hour,
                "weekday" => CalendarField::Weekday,
                "day" => CalendarField::Day,
                "dayOfYear" => CalendarField::DayOfYear,
                "month" => CalendarField::Month,
                other => return Err(Error::value("calendar", "a field of a calendar", other)),
            })
        };
        let fields = fields.iter().map(field).collect::<Result<Vec<_>>>()?;
        let times: Vec<i64> = times.iter().map(|t| *t as i64).collect();
        let values = s4_data::calendar(&times, &fields, zone.as_deref());
        values.map(Data::I32).map_err(|e| refused("calendar", "times and a zone", e))
    })
}
