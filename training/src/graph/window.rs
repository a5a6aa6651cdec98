//! Geometry of convolutions and pooling: kernel, strides, dilations, pads.

use crate::error::OperatorError;
use crate::onnx::Attributes;

/// How a window moves over the spatial axes; one number per spatial axis in every field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Size of the window.
    pub kernel: Vec<usize>,
    /// Steps between windows.
    pub strides: Vec<usize>,
    /// Steps between elements of a window.
    pub dilations: Vec<usize>,
    /// Zeros before the first element.
    pub pads_begin: Vec<usize>,
    /// Zeros after the last element.
    pub pads_end: Vec<usize>,
    /// Whether pooling keeps a last window that reaches beyond the pads.
    pub ceil_mode: bool,
}

impl Window {
    /// Reads the geometry from a node's attributes. `kernel` stands in for `kernel_shape` where an
    /// operator may leave it out, and `input` is the spatial shape, for `auto_pad`.
    ///
    /// # Errors
    /// [`OperatorError`] if the attributes do not have one number per axis, or are not positive.
    pub fn of(
        operator: &str,
        attributes: &Attributes,
        kernel: Option<&[usize]>,
        input: &[usize],
    ) -> Result<Window, OperatorError> {
        let rank = input.len();
        let fail = |reason: String| OperatorError::new(operator, reason);
        let read =
            |name: &str, count: usize, least: i64| -> Result<Option<Vec<usize>>, OperatorError> {
                let Some(values) = attributes.ints_of(name) else {
                    return Ok(None);
                };
                if values.len() != count || values.iter().any(|value| *value < least) {
                    return Err(fail(format!(
                        "{name} is {values:?}; {count} numbers of at least {least} are needed"
                    )));
                }
                Ok(Some(values.iter().map(|value| *value as usize).collect()))
            };
        let kernel = match (read("kernel_shape", rank, 1)?, kernel) {
            (Some(kernel), _) => kernel,
            (None, Some(kernel)) => kernel.to_vec(),
            (None, None) => return Err(fail("has no kernel_shape".to_owned())),
        };
        let strides = read("strides", rank, 1)?.unwrap_or_else(|| vec![1; rank]);
        let dilations = read("dilations", rank, 1)?.unwrap_or_else(|| vec![1; rank]);
        let pads = read("pads", 2 * rank, 0)?.unwrap_or_else(|| vec![0; 2 * rank]);
        let (pads_begin, pads_end) = pads.split_at(rank);
        let mut window = Window {
            kernel,
            strides,
            dilations,
            pads_begin: pads_begin.to_vec(),
            pads_end: pads_end.to_vec(),
            ceil_mode: attributes.int_or("ceil_mode", 0) != 0,
        };
        window.resolve_auto_pad(operator, attributes.string_or("auto_pad", "NOTSET"), input)?;
        Ok(window)
    }

    /// `auto_pad` of ONNX: SAME_UPPER and SAME_LOWER give ceil(input / stride) windows, the odd zero
    /// after or before.
    fn resolve_auto_pad(
        &mut self,
        operator: &str,
        mode: &str,
        input: &[usize],
    ) -> Result<(), OperatorError> {
        match mode {
            "NOTSET" => return Ok(()),
            "VALID" | "SAME_UPPER" | "SAME_LOWER" => {}
            other => {
                return Err(OperatorError::new(
                    operator,
                    format!("auto_pad is '{other}'"),
                ));
            }
        }
        for (axis, size) in input.iter().enumerate() {
            let windows = size.div_ceil(self.strides[axis]);
            let covered = (windows - 1) * self.strides[axis] + self.extent(axis);
            let total = if mode == "VALID" {
                0
            } else {
                covered.saturating_sub(*size)
            };
            let small = total / 2;
            self.pads_begin[axis] = if mode == "SAME_UPPER" {
                small
            } else {
                total - small
            };
            self.pads_end[axis] = total - self.pads_begin[axis];
        }
        Ok(())
    }

    /// Elements from the first to the last of a window.
    #[must_use]
    pub fn extent(&self, axis: usize) -> usize {
        self.dilations[axis] * (self.kernel[axis] - 1) + 1
    }

    /// Number of windows along every axis, or `None` if not even one fits.
    #[must_use]
    pub fn output(&self, input: &[usize]) -> Option<Vec<usize>> {
        (0..input.len())
            .map(|axis| {
                let padded = input[axis] + self.pads_begin[axis] + self.pads_end[axis];
                let room = padded.checked_sub(self.extent(axis))?;
                let stride = self.strides[axis];
                let mut count = room / stride + 1;
                // A window kept by ceil_mode must begin inside the input or its first pads.
                if self.ceil_mode
                    && room % stride != 0
                    && count * stride < input[axis] + self.pads_begin[axis]
                {
                    count += 1;
                }
                Some(count)
            })
            .collect()
    }

    /// Makes what the last window of `ceil_mode` reaches beyond the pads part of the pads. Returns how much that
    /// was along every axis.
    pub(crate) fn without_ceil_mode(&mut self, input: &[usize]) -> Vec<usize> {
        let Some(output) = self.output(input).filter(|_| self.ceil_mode) else {
            return vec![0; input.len()];
        };
        self.ceil_mode = false;
        (0..input.len())
            .map(|axis| {
                let padded = input[axis] + self.pads_begin[axis] + self.pads_end[axis];
                let touched = (output[axis] - 1) * self.strides[axis] + self.extent(axis);
                let beyond = touched.saturating_sub(padded);
                self.pads_end[axis] += beyond;
                beyond
            })
            .collect()
    }

    /// Elements after the last window along every axis that no window touches: zero where strides
    /// divide evenly.
    #[must_use]
    pub fn remainder(&self, input: &[usize], output: &[usize]) -> Vec<usize> {
        (0..input.len())
            .map(|axis| {
                let padded = input[axis] + self.pads_begin[axis] + self.pads_end[axis];
                let touched = (output[axis] - 1) * self.strides[axis] + self.extent(axis);
                padded - touched
            })
            .collect()
    }

    /// The attributes that say the same without `auto_pad`.
    #[must_use]
    pub fn attributes(&self) -> Attributes {
        let ints = |values: &[usize]| values.iter().map(|v| *v as i64).collect::<Vec<_>>();
        let pads = [self.pads_begin.clone(), self.pads_end.clone()].concat();
        Attributes::new()
            .ints("kernel_shape", &ints(&self.kernel))
            .ints("strides", &ints(&self.strides))
            .ints("dilations", &ints(&self.dilations))
            .ints("pads", &ints(&pads))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_upper_puts_the_odd_zero_last_and_same_lower_first() {
        let attributes = Attributes::new()
            .ints("kernel_shape", &[2])
            .ints("strides", &[2]);
        let upper = attributes.clone().string("auto_pad", "SAME_UPPER");
        let lower = attributes.string("auto_pad", "SAME_LOWER");
        let upper = Window::of("MaxPool", &upper, None, &[5]).unwrap();
        let lower = Window::of("MaxPool", &lower, None, &[5]).unwrap();
        assert_eq!((upper.pads_begin[0], upper.pads_end[0]), (0, 1));
        assert_eq!((lower.pads_begin[0], lower.pads_end[0]), (1, 0));
        assert_eq!(upper.output(&[5]), Some(vec![3]));
    }

    #[test]
    fn a_window_larger_than_its_input_has_no_output() {
        let attributes = Attributes::new().ints("kernel_shape", &[4]);
        let window = Window::of("MaxPool", &attributes, None, &[3]).unwrap();
        assert_eq!(window.output(&[3]), None);
    }

    #[test]
    fn ceil_mode_keeps_a_last_window_only_if_it_begins_inside() {
        let attributes = Attributes::new()
            .ints("kernel_shape", &[2])
            .ints("strides", &[2])
            .int("ceil_mode", 1);
        let window = Window::of("MaxPool", &attributes, None, &[5]).unwrap();
        assert_eq!(window.output(&[5]), Some(vec![3]));
        let attributes = Attributes::new()
            .ints("kernel_shape", &[1])
            .ints("strides", &[3])
            .int("ceil_mode", 1);
        let window = Window::of("MaxPool", &attributes, None, &[3]).unwrap();
        assert_eq!(window.output(&[3]), Some(vec![1]));
    }

    #[test]
    fn attributes_of_the_wrong_length_are_refused_with_the_length() {
        let attributes = Attributes::new()
            .ints("kernel_shape", &[3, 3])
            .ints("pads", &[1, 1]);
        let error = Window::of("Conv", &attributes, None, &[8, 8])
            .unwrap_err()
            .to_string();
        assert!(error.contains("pads") && error.contains('4'), "{error}");
    }
}
