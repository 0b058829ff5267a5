//! Where moments lie in the day, the week and the year.

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
    /// How many values there are: the size of an embedding, and what makes v/(count − 1) − ½ a feature in −½ … ½.
    pub fn count(self) -> usize {
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

/// (times, fields) of moments in milliseconds since 1970, as a calendar on the wall of `zone` (an IANA name; `None`:
/// UTC) shows them.
pub fn calendar(times: &[i64], fields: &[CalendarField], zone: Option<&str>) -> Result<Vec<i32>> {
    let zone = time_zone(zone)?;
    let mut shown = Vec::with_capacity(times.len().saturating_mul(fields.len()));
    for (i, time) in times.iter().enumerate() {
        let moment = Timestamp::from_millisecond(*time).map_err(|_| DataError {
            row: Some(i as u64 + 1),
            ..DataError::new(format!("expected milliseconds of the years −9,999 to 9,999, got {time}"))
        })?;
        let wall = zone.to_datetime(moment);
        shown.extend(fields.iter().map(|field| match field {
            CalendarField::Minute => i32::from(wall.minute()),
            CalendarField::Hour => i32::from(wall.hour()),
            CalendarField::Weekday => i32::from(wall.weekday().to_monday_zero_offset()),
            CalendarField::Day => i32::from(wall.day()) - 1,
            CalendarField::DayOfYear => i32::from(wall.day_of_year()) - 1,
            CalendarField::Month => i32::from(wall.month()) - 1,
        }));
    }
    Ok(shown)
}

/// A zone by its IANA name; `None` is UTC.
pub(crate) fn time_zone(name: Option<&str>) -> Result<TimeZone> {
    match name {
        None => Ok(TimeZone::UTC),
        Some(name) => TimeZone::get(name)
            .map_err(|_| DataError::new(format!("expected the name of a time zone, got \"{name}\""))),
    }
}
