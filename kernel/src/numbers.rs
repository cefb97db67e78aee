//! Rounding, interpolation and decimal text. Twin: `enrichment/money.py`, and what NumPy and Python do with floats.

/// Results of the quadrature are trusted to this relative error: some thousand times what the two cores differ by.
const TRUSTED: f64 = 1e-11;

/// `numpy.round(value, 6) + 0.0`: half-even to 6 decimals; -0 becomes 0.
pub fn round6(value: f64) -> f64 {
    (value * 1e6).round_ties_even() / 1e6 + 0.0
}

/// Whether every number within the error of a computed one is rounded to the same 6 decimals.
pub fn is_safely_rounded(value: f64) -> bool {
    let scaled = value * 1e6;
    let from_tie = ((scaled - scaled.floor()) - 0.5).abs();
    from_tie > (scaled.abs() + 1e3) * TRUSTED
}

/// Python's `round(value, 6)`: the decimal nearest to the exact value of the double, ties to even.
pub fn round6_exactly(value: f64) -> f64 {
    format!("{value:.6}").parse().unwrap_or(value)
}

/// `numerator / denominator` rounded to the nearest integer, ties to even; `denominator` > 0.
pub fn divide_half_even(numerator: i128, denominator: i128) -> i128 {
    let quotient = numerator.div_euclid(denominator);
    let twice = 2 * numerator.rem_euclid(denominator);
    let is_up = twice > denominator || (twice == denominator && quotient & 1 == 1);
    quotient + i128::from(is_up)
}

/// Base units as a decimal string, rounded half-even to the minor unit; `share` divides the amount first.
pub fn write_micros(out: &mut Vec<u8>, micros: i128, minor_unit_digits: u32, share: i128) {
    let minor = divide_half_even(micros, share * 10_i128.pow(6 - minor_unit_digits));
    let mut buffer = itoa::Buffer::new();
    if minor_unit_digits == 0 {
        out.extend_from_slice(buffer.format(minor).as_bytes());
        return;
    }
    let unit = 10_i128.pow(minor_unit_digits);
    if minor < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(buffer.format(minor.abs() / unit).as_bytes());
    out.push(b'.');
    let rest = buffer.format(minor.abs() % unit).as_bytes();
    out.resize(out.len() + minor_unit_digits as usize - rest.len(), b'0');
    out.extend_from_slice(rest);
}

/// Straight lines between breakpoints, flat outside them.
pub struct Curve {
    pub at: Vec<f64>,
    pub points: Vec<f64>,
}

impl Curve {
    /// `numpy.interp` of one number: the same operations in the same order.
    pub fn interpolate(&self, value: f64) -> f64 {
        let last = self.at.len() - 1;
        if value > self.at[last] || last == 0 {
            return self.points[last];
        }
        if value < self.at[0] {
            return self.points[0];
        }
        let place = self.at.partition_point(|&at| at <= value);
        if place == 0 {
            return value; // not a number
        }
        let left = place - 1;
        if left == last || self.at[left] == value {
            return self.points[left];
        }
        let slope = (self.points[left + 1] - self.points[left]) / (self.at[left + 1] - self.at[left]);
        slope * (value - self.at[left]) + self.points[left]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_of_exact_ties_goes_to_even_as_in_python() {
        assert_eq!(round6_exactly(0.0078125), 0.007812);
        assert_eq!(round6_exactly(0.0234375), 0.023438);
        assert_eq!(round6_exactly(-0.0078125), -0.007812);
        assert_eq!(divide_half_even(-5, 2), -2);
        assert_eq!(divide_half_even(-7, 2), -4);
    }

    #[test]
    fn what_lies_near_a_tie_is_not_trusted() {
        assert!(is_safely_rounded(0.123_456_2));
        assert!(!is_safely_rounded(0.123_456_5));
        assert!(!is_safely_rounded(12.345_678_500_000_000_1));
    }
}
