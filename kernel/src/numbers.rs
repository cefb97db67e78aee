//! Rounding, interpolation and decimal text. Twin: `enrichment/money.py`, and what NumPy and Python do with floats.

/// Adding it to a smaller number leaves no room for decimals, so that the processor rounds them, half-even.
const NO_DECIMALS: f64 = 6_755_399_441_055_744.0;

/// `numpy.round(value, 6) + 0.0`: half-even to 6 decimals; -0 becomes 0.
#[inline]
pub fn round6(value: f64) -> f64 {
    let scaled = value * 1e6;
    if scaled.abs() < 1e15 {
        ((scaled + NO_DECIMALS) - NO_DECIMALS) / 1e6 + 0.0
    } else {
        scaled.round_ties_even() / 1e6 + 0.0
    }
}

/// e to the power of a number between -700 and 700, to about one unit in the last place: without a branch or a call,
/// so that several are computed at once. Cody and Waite's reduction, and the series up to the 13th power.
#[inline(always)]
pub fn exp(value: f64) -> f64 {
    const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    let shifted = value.max(-700.0) * std::f64::consts::LOG2_E + NO_DECIMALS;
    let power = shifted - NO_DECIMALS;
    let rest = (value.max(-700.0) - power * LN_2_HIGH) - power * LN_2_LOW;
    let mut series = 1.0 / 6_227_020_800.0;
    for factorial in [
        479_001_600.0,
        39_916_800.0,
        3_628_800.0,
        362_880.0,
        40_320.0,
        5_040.0,
        720.0,
        120.0,
        24.0,
        6.0,
        2.0,
    ] {
        series = series * rest + 1.0 / factorial;
    }
    let series = series * rest * rest + rest + 1.0;
    series * f64::from_bits(shifted.to_bits().wrapping_add(1023) << 52)
}

/// The natural logarithm of a positive, finite number above 1e-300, to about one unit in the last place: as `exp`.
#[inline(always)]
pub fn ln(value: f64) -> f64 {
    const LN_2_HIGH: f64 = 0.693_147_180_369_123_8;
    const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;
    const SQRT_HALF_BITS: u64 = 0x3FE6_A09E_667F_3BCD;
    let bits = value.to_bits();
    let exponent_bits = (bits.wrapping_sub(SQRT_HALF_BITS) as i64 >> 52) as u64;
    let mantissa = f64::from_bits(bits.wrapping_sub(exponent_bits << 52));
    let power = f64::from_bits(exponent_bits.wrapping_add(0x4338_0000_0000_0000)) - NO_DECIMALS;
    let ratio = (mantissa - 1.0) / (mantissa + 1.0);
    let square = ratio * ratio;
    let mut series = 1.0 / 23.0;
    for odd in [21.0, 19.0, 17.0, 15.0, 13.0, 11.0, 9.0, 7.0, 5.0, 3.0] {
        series = series * square + 1.0 / odd;
    }
    let small = 2.0 * ratio + 2.0 * ratio * square * series;
    power * LN_2_HIGH + (small + power * LN_2_LOW)
}

/// Whether every number within this relative error of a computed one (and a thousandth of it in millionths) is rounded
/// to the same 6 decimals.
pub fn is_safely_rounded(value: f64, error: f64) -> bool {
    let scaled = value * 1e6;
    let from_tie = ((scaled - scaled.floor()) - 0.5).abs();
    from_tie > (scaled.abs() + 1e3) * error
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
        let slope =
            (self.points[left + 1] - self.points[left]) / (self.at[left + 1] - self.at[left]);
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
    fn exponentials_and_logarithms_are_those_of_the_library_but_for_last_bits() {
        for step in -60_000..60_000 {
            let at = f64::from(step) / 100.0;
            let expected = at.exp();
            assert!((exp(at) - expected).abs() <= 4e-16 * expected, "exp({at})");
            if step > 0 {
                let expected = (at / 7.0).ln();
                assert!(
                    (ln(at / 7.0) - expected).abs() <= 4e-16 * expected.abs().max(1e-3),
                    "ln({at} / 7)"
                );
            }
        }
    }

    #[test]
    fn what_lies_near_a_tie_is_not_trusted() {
        assert!(is_safely_rounded(0.123_456_2, 1e-11));
        assert!(!is_safely_rounded(0.123_456_5, 1e-11));
        assert!(!is_safely_rounded(12.345_678_5, 1e-11));
    }
}
