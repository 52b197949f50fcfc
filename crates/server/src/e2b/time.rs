//! Times as E2B writes them, RFC 3339 in UTC, from and to ms since the epoch. Pure.

/// `2026-11-21T22:39:35.120Z`; times before the year 1 and after 9999 are cut to these.
pub(crate) fn shown(ms: i64) -> String {
    let ms = ms.clamp(-62_135_596_800_000, 253_402_300_799_999);
    let (days, rest) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let (year, month, day) = date_of(days);
    let (hour, minute, second) = (rest / 3_600_000, rest / 60_000 % 60, rest / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", rest % 1_000)
}

/// The time that a text of RFC 3339 says, with whatever offset and fraction.
pub(crate) fn read(text: &str) -> Option<i64> {
    let number = |from: usize, to: usize| -> Option<i64> {
        let digits = text.get(from..to)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
    };
    let mark = |at: usize, marks: &[u8]| text.as_bytes().get(at).is_some_and(|b| marks.contains(b));
    if !(mark(4, b"-") && mark(7, b"-") && mark(10, b"Tt ") && mark(13, b":") && mark(16, b":")) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let rest = text.get(19..)?;
    let digits = rest.strip_prefix('.').map_or(0, |after| after.bytes().take_while(u8::is_ascii_digit).count());
    let (fraction, zone) = if digits > 0 { rest.split_at(digits + 1) } else { ("", rest) };
    let millis: i64 = format!("{:0<3}", fraction.trim_start_matches('.')).get(..3)?.parse().ok()?;
    let offset = match zone {
        "Z" | "z" => 0,
        _ if zone.len() == 6 && zone.as_bytes()[3] == b':' => {
            let sign = match zone.as_bytes()[0] {
                b'+' => 1,
                b'-' => -1,
                _ => return None,
            };
            sign * (zone.get(1..3)?.parse::<i64>().ok()? * 60 + zone.get(4..6)?.parse::<i64>().ok()?)
        }
        _ => return None,
    };
    let seconds = days_of(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset * 60;
    Some(seconds * 1_000 + millis)
}

/// Days since 1970 as year, month and day of the Gregorian calendar.
pub(crate) fn date_of(days: i64) -> (i64, i64, i64) {
    // Counted from 1 March of the year 0, in eras of 400 years: leap days then come at the end of a year.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_795_300_775_120, "2026-11-21T22:39:35.120Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(shown(ms), text);
            assert_eq!(read(text), Some(ms));
        }
        assert_eq!(read("1970-01-01T01:00:00.5+01:00"), Some(500));
        assert_eq!(read("1970-01-01T00:00:00.123456789Z"), Some(123));
        for day in -800_000..800_000 {
            let (year, month, of_month) = date_of(day);
            assert_eq!(days_of(year, month, of_month), day);
        }
        for not in [
            "",
            "1970",
            "1970-13-01T00:00:00Z",
            "1970-01-01T00:00:00",
            "1970-01-01T00:00:00+0100",
            "é970-01-01T00:00:00Z",
            "+970-01-01T00:00:00Z",
        ] {
            assert_eq!(read(not), None, "{not}");
        }
        assert_eq!(shown(i64::MAX), "9999-12-31T23:59:59.999Z");
    }
}
