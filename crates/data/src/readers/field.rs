//! One field of a text table: a number, a time, text, or no value.

use jiff::{Timestamp, ZonedDateTime, civil::DateTime, fmt::strtime, tz::TimeZone};

/// The sign between a number's whole part and its fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decimal {
    /// 1.5
    Point,
    /// 1,5
    Comma,
}

/// What a field of a text table appears to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Appearance {
    Missing,
    Number,
    Time,
    /// Begins like a number but is none.
    BadNumber,
    Text,
}

/// How times are written in a table.
#[derive(Clone, Debug)]
pub(super) struct TimeFormat {
    /// A format in the letters of strptime; `None`: ISO 8601 and a few other unambiguous formats.
    pub format: Option<String>,
    /// The time zone of times that are written without an offset from UTC.
    pub zone: TimeZone,
}

/// The field without leading and trailing white space.
pub(super) fn trim(field: &[u8]) -> &[u8] {
    field.trim_ascii()
}

/// Whether a trimmed field has no value: it is empty, one of the usual words, or one of `missing_words`.
pub(super) fn is_missing(field: &[u8], missing_words: &[String]) -> bool {
    const USUAL_WORDS: [&str; 5] = ["nan", "na", "n/a", "null", "none"];
    field.is_empty()
        || USUAL_WORDS.iter().any(|w| field.eq_ignore_ascii_case(w.as_bytes()))
        || missing_words.iter().any(|w| w.as_bytes() == field)
}

/// The number that a trimmed field holds; infinite where it is written so or is too large.
pub(super) fn parse_number(field: &[u8], decimal: Decimal) -> Option<f64> {
    if let Some(number) = short_number(field, decimal) {
        return Some(number);
    }
    match decimal {
        Decimal::Point => std::str::from_utf8(field).ok()?.parse().ok(),
        Decimal::Comma => {
            let mut buffer = [0u8; 64];
            let with_point = buffer.get_mut(..field.len())?;
            for (to, from) in with_point.iter_mut().zip(field) {
                *to = match from {
                    b',' => b'.',
                    // 1.234 may mean 1234, with a thousands separator, or 1.234: refused.
                    b'.' => return None,
                    other => *other,
                };
            }
            std::str::from_utf8(with_point).ok()?.parse().ok()
        }
    }
}

/// Fast path for numbers of at most 15 digits without an exponent: the digits and the power of ten are exact as f64, so
/// that one division gives the correctly rounded number. `None` for all other fields.
fn short_number(field: &[u8], decimal: Decimal) -> Option<f64> {
    const POWERS: [f64; 16] =
        [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
    let sign = if decimal == Decimal::Comma { b',' } else { b'.' };
    let (negative, digits) = match field {
        [b'-', rest @ ..] => (true, rest),
        other => (false, other),
    };
    let (mut value, mut point) = (0u64, None);
    if digits.len() > 16 {
        return None;
    }
    for (i, byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => value = value * 10 + u64::from(byte - b'0'),
            other if *other == sign && point.is_none() => point = Some(i),
            _ => return None,
        }
    }
    let count = digits.len() - usize::from(point.is_some());
    if count == 0 || count > 15 {
        return None;
    }
    let number = value as f64 / POWERS[point.map_or(0, |at| digits.len() - at - 1)];
    Some(if negative { -number } else { number })
}

/// The time that a trimmed field holds, in milliseconds since 1970, UTC.
pub(super) fn parse_time(field: &str, time_format: &TimeFormat) -> Option<i64> {
    if let Some(format) = &time_format.format {
        let mut parsed = strtime::parse(format, field).ok()?;
        // A month alone begins with its first day.
        if parsed.day().is_none() && parsed.month().is_some() {
            parsed.set_day(Some(1)).ok()?;
        }
        if let Ok(moment) = parsed.to_timestamp() {
            return Some(moment.as_millisecond());
        }
        let local_time = parsed.to_datetime().or_else(|_| parsed.to_date().map(DateTime::from)).ok()?;
        return in_zone(local_time, &time_format.zone);
    }
    if !field.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if field.ends_with(']') {
        return field.parse::<ZonedDateTime>().ok().map(|z| z.timestamp().as_millisecond());
    }
    if field.len() > 10 && field.get(10..)?.contains(['Z', 'z', '+', '-']) {
        return field.parse::<Timestamp>().ok().map(Timestamp::as_millisecond);
    }
    let local_time = match field.as_bytes().get(2..5)? {
        // 31.12.2020, with or without a time.
        [b'.', _, _] => parse_by_formats(field, &["%d.%m.%Y", "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S"])?,
        // 2020/12/31; the orders of 12/31/2020 and 31/12/2020 cannot be told apart.
        [_, _, b'/'] => parse_by_formats(field, &["%Y/%m/%d", "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S"])?,
        [_, _, b'-'] if field.len() == 7 => format!("{field}-01").parse().ok()?,
        [_, _, b'-'] => field.parse().ok()?,
        _ => return None,
    };
    in_zone(local_time, &time_format.zone)
}

/// The date and time by the first of these strptime formats that fits.
fn parse_by_formats(field: &str, formats: &[&str]) -> Option<DateTime> {
    formats.iter().find_map(|format| {
        let parsed = strtime::parse(format, field).ok()?;
        parsed.to_datetime().or_else(|_| parsed.to_date().map(DateTime::from)).ok()
    })
}

/// Local time of a zone as milliseconds since 1970, UTC.
fn in_zone(local_time: DateTime, zone: &TimeZone) -> Option<i64> {
    zone.to_timestamp(local_time).ok().map(Timestamp::as_millisecond)
}

/// What a trimmed field appears to be.
pub(super) fn field_appearance(
    field: &[u8],
    decimal: Decimal,
    missing_words: &[String],
    time_format: &TimeFormat,
) -> Appearance {
    if is_missing(field, missing_words) {
        return Appearance::Missing;
    }
    if parse_number(field, decimal).is_some() {
        return Appearance::Number;
    }
    if std::str::from_utf8(field).is_ok_and(|text| parse_time(text, time_format).is_some()) {
        return Appearance::Time;
    }
    let digits = field.strip_prefix(b"-").or_else(|| field.strip_prefix(b"+")).unwrap_or(field);
    let digits = digits.strip_prefix(b".").unwrap_or(digits);
    if digits.first().is_some_and(u8::is_ascii_digit) { Appearance::BadNumber } else { Appearance::Text }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DataRng;

    #[test]
    fn short_numbers_are_the_standard_librarys() {
        let mut rng = DataRng::new(4, 4);
        let letters = b"0123456789012345678901234567890123456789...-+e ";
        for _ in 0..200_000 {
            let length = 1 + rng.below(18);
            let text: Vec<u8> = (0..length).map(|_| letters[rng.below(letters.len())]).collect();
            if let Some(number) = short_number(&text, Decimal::Point) {
                let text = std::str::from_utf8(&text).unwrap();
                assert_eq!(Ok(number.to_bits()), text.parse::<f64>().map(f64::to_bits), "{text}");
            }
        }
        for (text, number) in
            [("-0", -0.0f64), ("5.", 5.0), (".5", 0.5), ("999999999999999", 999999999999999.0)]
        {
            assert_eq!(
                short_number(text.as_bytes(), Decimal::Point).map(f64::to_bits),
                Some(number.to_bits())
            );
        }
        for text in ["", "-", ".", "-.", "1.2.3", "--1", "1e5", "1234567890123456", "1,5", "+1"] {
            assert_eq!(short_number(text.as_bytes(), Decimal::Point), None, "{text}");
        }
    }
}
