//! Copies of parameters a piece at a time, so that no request waits long for a large model's copy.

/// Most elements copied at once: 1 MiB, a fraction of a millisecond.
pub const PIECE: usize = 1 << 18;

/// [`PIECE`] elements of tensors that follow one another.
pub(crate) struct Piece {
    skip: usize,
    left: usize,
}

impl Piece {
    /// The piece that begins at element `first`.
    pub(crate) const fn at(first: usize) -> Self {
        Self {
            skip: first,
            left: PIECE,
        }
    }

    /// Copies what of the next tensor belongs to the piece; whether the tensor goes on behind it. Does not
    /// allocate.
    pub(crate) fn copy(&mut self, from: &[f32], to: &mut [f32]) -> bool {
        let start = self.skip.min(from.len());
        self.skip -= start;
        let end = start + (from.len() - start).min(self.left);
        self.left -= end - start;
        to[start..end].copy_from_slice(&from[start..end]);
        end < from.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_every_element_once() {
        for lengths in [
            vec![3],
            vec![PIECE],
            vec![PIECE + 1, 5],
            vec![2, PIECE - 2, 0, 2 * PIECE + 7, 1],
        ] {
            let from: Vec<Vec<f32>> = lengths
                .iter()
                .map(|&length| (0..length).map(|i| i as f32 + 1.0).collect())
                .collect();
            let mut to: Vec<Vec<f32>> = lengths.iter().map(|&length| vec![0.0; length]).collect();
            let mut first = 0;
            loop {
                let mut piece = Piece::at(first);
                let mut pairs = from.iter().zip(&mut to);
                if !pairs.any(|(from, to)| piece.copy(from, to)) {
                    break;
                }
                first += PIECE;
            }
            assert_eq!(from, to);
            let total: usize = lengths.iter().sum();
            assert!(first < total && total <= first + PIECE, "{lengths:?}");
        }
    }
}
