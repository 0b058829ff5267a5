//! One field of a table: a number, a moment, or nothing.

use jiff::{Timestamp, ZonedDateTime, civil::DateTime, fmt::strtime, tz::TimeZone};

/// The sign between a number's whole part and its fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decimal {
    /// 1.5
    Point,
    /// 1,5
    Comma,
}

/// What a field looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Missing,
    Number,
    Time,
    /// Begins like a number and is none.
    BadNumber,
    Text,
}

/// How times are written.
#[derive(Clone, Debug)]
pub(super) struct TimeForm {
    /// A format of strptime; `None`: the ISO forms and a few that cannot be mistaken.
    pub format: Option<String>,
    /// Where a time without an offset was taken.
    pub zone: TimeZone,
}

/// Without the white space around it.
pub(super) fn trim(field: &[u8]) -> &[u8] {
    field.trim_ascii()
}

/// Whether a trimmed field holds no value: empty, one of the usual words, or one of `words`.
pub(super) fn is_missing(field: &[u8], words: &[String]) -> bool {
    const USUAL: [&str; 5] = ["nan", "na", "n/a", "null", "none"];
    field.is_empty()
        || USUAL.iter().any(|w| field.eq_ignore_ascii_case(w.as_bytes()))
        || words.iter().any(|w| w.as_bytes() == field)
}

/// A trimmed field as a number; infinite where it says so or is too large.
pub(super) fn number(field: &[u8], decimal: Decimal) -> Option<f64> {
    if let Some(number) = short_number(field, decimal) {
        return Some(number);
    }
    match decimal {
        Decimal::Point => std::str::from_utf8(field).ok()?.parse().ok(),
        Decimal::Comma => {
            let mut points = [0u8; 64];
            let written = points.get_mut(..field.len())?;
            for (to, from) in written.iter_mut().zip(field) {
                *to = match from {
                    b',' => b'.',
                    // A thousands separator would make 1.234 a thousand times larger: refused.
                    b'.' => return None,
                    other => *other,
                };
            }
            std::str::from_utf8(written).ok()?.parse().ok()
        }
    }
}

/// A number of at most 15 digits without an exponent, as most are: digits and power of ten are both exact, so that
/// one division rounds correctly. `None`: of another form, or no number.
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

/// A trimmed field as milliseconds since 1970 in UTC.
pub(super) fn time(field: &str, form: &TimeForm) -> Option<i64> {
    if let Some(format) = &form.format {
        let parsed = strtime::parse(format, field).ok()?;
        if let Ok(moment) = parsed.to_timestamp() {
            return Some(moment.as_millisecond());
        }
        let written = parsed.to_datetime().or_else(|_| parsed.to_date().map(DateTime::from)).ok()?;
        return in_zone(written, &form.zone);
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
    let written = match field.as_bytes().get(2..5)? {
        // 31.12.2020, with or without a time.
        [b'.', _, _] => loose(field, &["%d.%m.%Y", "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S"])?,
        // 2020/12/31; the orders of 12/31/2020 and 31/12/2020 cannot be told apart.
        [_, _, b'/'] => loose(field, &["%Y/%m/%d", "%Y/%m/%d %H:%M", "%Y/%m/%d %H:%M:%S"])?,
        [_, _, b'-'] if field.len() == 7 => format!("{field}-01").parse().ok()?,
        [_, _, b'-'] => field.parse().ok()?,
        _ => return None,
    };
    in_zone(written, &form.zone)
}

fn loose(field: &str, formats: &[&str]) -> Option<DateTime> {
    formats.iter().find_map(|format| {
        let parsed = strtime::parse(format, field).ok()?;
        parsed.to_datetime().or_else(|_| parsed.to_date().map(DateTime::from)).ok()
    })
}

fn in_zone(written: DateTime, zone: &TimeZone) -> Option<i64> {
    zone.to_timestamp(written).ok().map(Timestamp::as_millisecond)
}

/// What a trimmed field looks like.
pub(super) fn look(field: &[u8], decimal: Decimal, words: &[String], form: &TimeForm) -> Look {
    if is_missing(field, words) {
        return Look::Missing;
    }
    if number(field, decimal).is_some() {
        return Look::Number;
    }
    if std::str::from_utf8(field).is_ok_and(|text| time(text, form).is_some()) {
        return Look::Time;
    }
    let digits = field.strip_prefix(b"-").or_else(|| field.strip_prefix(b"+")).unwrap_or(field);
    let digits = digits.strip_prefix(b".").unwrap_or(digits);
    if digits.first().is_some_and(u8::is_ascii_digit) { Look::BadNumber } else { Look::Text }
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
