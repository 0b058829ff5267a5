//! Calendar features of moments: minute, hour, day of the week and so on, as integers from 0.

use crate::{DataError, Result};
use jiff::{Timestamp, tz::TimeZone};

/// A part of a date or of a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CalendarField {
    /// 0 to 59.
    Minute,
    /// 0 to 23.
    Hour,
    /// 0 (Monday) to 6.
    Weekday,
    /// 0 to 30.
    Day,
    /// 0 to 365.
    DayOfYear,
    /// 0 to 11.
    Month,
}

impl CalendarField {
    /// How many values the field can have: the vocabulary of an embedding of it. As a number in −½ … ½ a value v is
    /// v/(count − 1) − ½.
    pub fn value_count(self) -> usize {
        match self {
            CalendarField::Minute => 60,
            CalendarField::Hour => 24,
            CalendarField::Weekday => 7,
            CalendarField::Day => 31,
            CalendarField::DayOfYear => 366,
            CalendarField::Month => 12,
        }
    }
}

/// The values of `fields` for each of `times` (milliseconds since 1970, UTC), in local time of `zone` (an IANA name;
/// `None`: UTC). Gives (times, fields), row-major.
pub fn calendar(times: &[i64], fields: &[CalendarField], zone: Option<&str>) -> Result<Vec<i32>> {
    let zone = time_zone(zone)?;
    let mut field_values = Vec::with_capacity(times.len().saturating_mul(fields.len()));
    for (i, time) in times.iter().enumerate() {
        let moment = Timestamp::from_millisecond(*time).map_err(|_| DataError {
            row: Some(i as u64 + 1),
            ..DataError::new(format!("expected milliseconds of the years −9,999 to 9,999, got {time}"))
        })?;
        let local_time = zone.to_datetime(moment);
        field_values.extend(fields.iter().map(|field| match field {
            CalendarField::Minute => i32::from(local_time.minute()),
            CalendarField::Hour => i32::from(local_time.hour()),
            CalendarField::Weekday => i32::from(local_time.weekday().to_monday_zero_offset()),
            CalendarField::Day => i32::from(local_time.day()) - 1,
            CalendarField::DayOfYear => i32::from(local_time.day_of_year()) - 1,
            CalendarField::Month => i32::from(local_time.month()) - 1,
        }));
    }
    Ok(field_values)
}

/// The time zone of an IANA name; `None` is UTC.
pub(crate) fn time_zone(name: Option<&str>) -> Result<TimeZone> {
    match name {
        None => Ok(TimeZone::UTC),
        Some(name) => TimeZone::get(name)
            .map_err(|_| DataError::new(format!("expected the name of a time zone, got \"{name}\""))),
    }
}
