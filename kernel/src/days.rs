//! Time as integers: microseconds and days since the epoch. Twin: `enrichment/days.py`, `schemas/timestamps.py`.

pub const DAY_US: i64 = 86_400_000_000;
/// A day after every day that a record may carry.
pub const FOREVER_DAY: i64 = 10_000_000;

/// The UTC day, counted from 1970-01-01, that holds this time.
pub fn day_of(time_us: i64) -> i64 {
    time_us.div_euclid(DAY_US)
}

/// The first instant of a day.
pub fn midnight_us(day: i64) -> i64 {
    day * DAY_US
}

/// ISO 8601 date, such as `2025-01-09`.
pub fn write_day(out: &mut Vec<u8>, day: i64) {
    let (year, month, day) = civil(day);
    write_digits(out, year, 4);
    out.push(b'-');
    write_digits(out, month, 2);
    out.push(b'-');
    write_digits(out, day, 2);
}

/// RFC 3339 with `Z`; a fraction is written only as far as it is not zero.
pub fn write_time(out: &mut Vec<u8>, time_us: i64) {
    let day = day_of(time_us);
    let of_day_us = time_us - midnight_us(day);
    let seconds = of_day_us / 1_000_000;
    write_day(out, day);
    for (mark, value) in [
        (b'T', seconds / 3600),
        (b':', seconds / 60 % 60),
        (b':', seconds % 60),
    ] {
        out.push(mark);
        write_digits(out, value, 2);
    }
    let mut fraction = of_day_us % 1_000_000;
    if fraction > 0 {
        let mut width = 6;
        while fraction % 10 == 0 {
            fraction /= 10;
            width -= 1;
        }
        out.push(b'.');
        write_digits(out, fraction, width);
    }
    out.push(b'Z');
}

/// A time as nearly all records write it, `2025-01-09T12:00:00Z` with at most six digits of a fraction; None for
/// every other text, valid or not.
pub fn parse_plain_time(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if bytes.len() < 20 || bytes[bytes.len() - 1] != b'Z' {
        return None;
    }
    let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if marks.iter().any(|&(at, mark)| bytes[at] != mark) {
        return None;
    }
    let (year, month, day) = (
        digits(&bytes[..4])?,
        digits(&bytes[5..7])?,
        digits(&bytes[8..10])?,
    );
    let (hour, minute, second) = (
        digits(&bytes[11..13])?,
        digits(&bytes[14..16])?,
        digits(&bytes[17..19])?,
    );
    if year < 1970 || !(1..=12).contains(&month) || day < 1 || day > days_in_month(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let fraction = &bytes[19..bytes.len() - 1];
    let fraction_us = if fraction.is_empty() {
        0
    } else {
        let width = fraction.len() - 1;
        if fraction[0] != b'.' || !(1..=6).contains(&width) {
            return None;
        }
        digits(&fraction[1..])? * 10_i64.pow(6 - width as u32)
    };
    let seconds = hour * 3600 + minute * 60 + second;
    Some(midnight_us(days_from_civil(year, month, day)) + seconds * 1_000_000 + fraction_us)
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0, |value, byte| {
        byte.is_ascii_digit()
            .then(|| value * 10 + i64::from(byte - b'0'))
    })
}

fn write_digits(out: &mut Vec<u8>, value: i64, width: usize) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(value).as_bytes();
    out.resize(out.len() + width.saturating_sub(text.len()), b'0');
    out.extend_from_slice(text);
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since the epoch of a date of the proleptic Gregorian calendar, whose years here begin in March.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted - era * 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}
