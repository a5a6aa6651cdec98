//! The lab's predictor (fulcrum.md section 4; PowerTrain, arXiv 2407.13944): a multilayer perceptron
//! 256-128-64-1 with ReLU, dropout 0.4 and 0.3, Adam at 1e-3, mean squared error, standardised inputs
//! and outputs. A baseline: nothing of ours rests on it.

use crate::random::Random;

const WIDTHS: [usize; 3] = [256, 128, 64];
/// Dropout after the first and the second layer.
const DROPOUT: [f64; 3] = [0.4, 0.3, 0.0];
const LEARNING_RATE: f64 = 1e-3;
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;
/// Not published: samples per step, and steps.
const BATCH: usize = 32;
const STEPS: usize = 400;

/// Mean and standard deviation of one column.
#[derive(Clone, Copy, Debug)]
struct Scale {
    mean: f64,
    sigma: f64,
}

impl Scale {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let count = values.clone().count().max(1) as f64;
        let mean = values.clone().sum::<f64>() / count;
        let variance = values.map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
        let sigma = variance.sqrt();
        Self {
            mean,
            sigma: if sigma > 0.0 { sigma } else { 1.0 },
        }
    }

    fn standard(&self, x: f64) -> f64 {
        (x - self.mean) / self.sigma
    }
}

/// A fully connected layer with the state of Adam.
#[derive(Clone, Debug)]
struct Layer {
    inputs: usize,
    /// Row per output: its weights, then its bias.
    weights: Vec<f64>,
    gradient: Vec<f64>,
    momentum: Vec<f64>,
    variance: Vec<f64>,
}

impl Layer {
    /// He initialisation.
    fn new(inputs: usize, outputs: usize, random: &mut Random) -> Self {
        let sigma = (2.0 / inputs as f64).sqrt();
        let count = outputs * (inputs + 1);
        let weights = (0..count)
            .map(|at| match at % (inputs + 1) == inputs {
                true => 0.0,
                false => sigma * random.normal(),
            })
            .collect();
        Self {
            inputs,
            weights,
            gradient: vec![0.0; count],
            momentum: vec![0.0; count],
            variance: vec![0.0; count],
        }
    }

    fn forward(&self, x: &[f64]) -> Vec<f64> {
        self.weights
            .chunks(self.inputs + 1)
            .map(|row| {
                row[..self.inputs]
                    .iter()
                    .zip(x)
                    .map(|(w, x)| w * x)
                    .sum::<f64>()
                    + row[self.inputs]
            })
            .collect()
    }

    /// Adds to the gradient; returns the gradient of the inputs.
    fn backward(&mut self, x: &[f64], upstream: &[f64]) -> Vec<f64> {
        let mut below = vec![0.0; self.inputs];
        let width = self.inputs + 1;
        for (at, &up) in upstream.iter().enumerate().filter(|(_, up)| **up != 0.0) {
            let row = at * width..at * width + self.inputs;
            for ((below, w), (g, x)) in below
                .iter_mut()
                .zip(&self.weights[row.clone()])
                .zip(self.gradient[row].iter_mut().zip(x))
            {
                *below += up * w;
                *g += up * x;
            }
            self.gradient[at * width + self.inputs] += up;
        }
        below
    }

    /// One step of Adam (Kingma and Ba, arXiv 1412.6980, algorithm 1); `step` from 1.
    fn update(&mut self, step: i32) {
        let rate = LEARNING_RATE * (1.0 - libm::pow(BETA2, step.into())).sqrt()
            / (1.0 - libm::pow(BETA1, step.into()));
        for at in 0..self.weights.len() {
            let g = std::mem::take(&mut self.gradient[at]);
            self.momentum[at] = BETA1 * self.momentum[at] + (1.0 - BETA1) * g;
            self.variance[at] = BETA2 * self.variance[at] + (1.0 - BETA2) * g * g;
            self.weights[at] -= rate * self.momentum[at] / (self.variance[at].sqrt() + EPSILON);
        }
    }
}

/// A trained network for one output.
#[derive(Clone, Debug)]
pub struct Mlp {
    layers: Vec<Layer>,
    inputs: Vec<Scale>,
    output: Scale,
}

impl Mlp {
    /// Trains on samples `(inputs, output)`, all with as many inputs.
    #[must_use]
    pub fn train(samples: &[(Vec<f64>, f64)], random: &mut Random) -> Self {
        let inputs: Vec<Scale> = (0..samples.first().map_or(0, |sample| sample.0.len()))
            .map(|at| Scale::of(samples.iter().map(move |sample| sample.0[at])))
            .collect();
        let output = Scale::of(samples.iter().map(|sample| sample.1));
        let mut sizes = vec![inputs.len()];
        sizes.extend(WIDTHS);
        sizes.push(1);
        let layers = sizes
            .windows(2)
            .map(|pair| Layer::new(pair[0], pair[1], random))
            .collect();
        let mut network = Self {
            layers,
            inputs,
            output,
        };
        for step in 1..=STEPS {
            let batch = BATCH.min(samples.len());
            for _ in 0..batch {
                let (x, y) = &samples[random.below(samples.len())];
                network.accumulate(x, *y, 1.0 / batch as f64, random);
            }
            for layer in &mut network.layers {
                layer.update(step as i32);
            }
        }
        network
    }

    fn standard(&self, x: &[f64]) -> Vec<f64> {
        x.iter()
            .zip(&self.inputs)
            .map(|(x, scale)| scale.standard(*x))
            .collect()
    }

    /// Adds the gradient of `weight * (f(x) - y)^2`, with dropout.
    fn accumulate(&mut self, x: &[f64], y: f64, weight: f64, random: &mut Random) {
        let last = self.layers.len() - 1;
        let mut activations = vec![self.standard(x)];
        for (at, layer) in self.layers.iter().enumerate() {
            let mut out = layer.forward(&activations[at]);
            if at < last {
                let keep = 1.0 - DROPOUT[at];
                for value in &mut out {
                    let kept = DROPOUT[at] == 0.0 || random.uniform() < keep;
                    *value = if kept { value.max(0.0) / keep } else { 0.0 };
                }
            }
            activations.push(out);
        }
        let error = activations[last + 1][0] - self.output.standard(y);
        let mut upstream = vec![2.0 * weight * error];
        for at in (0..=last).rev() {
            upstream = self.layers[at].backward(&activations[at], &upstream);
            if at > 0 {
                let keep = 1.0 - DROPOUT[at - 1];
                for (up, value) in upstream.iter_mut().zip(&activations[at]) {
                    *up = if *value > 0.0 { *up / keep } else { 0.0 };
                }
            }
        }
    }

    /// The network's output.
    #[must_use]
    pub fn predict(&self, x: &[f64]) -> f64 {
        let last = self.layers.len() - 1;
        let mut values = self.standard(x);
        for (at, layer) in self.layers.iter().enumerate() {
            values = layer.forward(&values);
            if at < last {
                values.iter_mut().for_each(|value| *value = value.max(0.0));
            }
        }
        self.output.mean + self.output.sigma * values[0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        let mut random = Random::new(1, &[b"mlp test"]);
        let mut layer = Layer::new(3, 2, &mut random);
        let (x, up) = ([0.3, -0.7, 1.1], [0.5, -2.0]);
        let below = layer.backward(&x, &up);
        let loss = |layer: &Layer, x: &[f64]| -> f64 {
            layer.forward(x).iter().zip(&up).map(|(y, up)| y * up).sum()
        };
        let base = loss(&layer, &x);
        for at in 0..layer.weights.len() {
            let mut moved = layer.clone();
            moved.weights[at] += 1e-6;
            let slope = (loss(&moved, &x) - base) / 1e-6;
            assert!((slope - layer.gradient[at]).abs() < 1e-5, "weight {at}");
        }
        for at in 0..3 {
            let mut moved = x;
            moved[at] += 1e-6;
            let slope = (loss(&layer, &moved) - base) / 1e-6;
            assert!((slope - below[at]).abs() < 1e-5, "input {at}");
        }
    }

    #[test]
    fn a_plane_is_learned_better_than_its_mean() {
        let mut random = Random::new(2, &[b"mlp test"]);
        let samples: Vec<(Vec<f64>, f64)> = (0..60)
            .map(|_| {
                let x = vec![random.uniform(), random.uniform()];
                let y = 100.0 + 30.0 * x[0] - 20.0 * x[1];
                (x, y)
            })
            .collect();
        let network = Mlp::train(&samples, &mut random);
        let error = |predict: &dyn Fn(&[f64]) -> f64| -> f64 {
            samples
                .iter()
                .map(|(x, y)| (predict(x) - y) * (predict(x) - y))
                .sum()
        };
        let mean = samples.iter().map(|s| s.1).sum::<f64>() / 60.0;
        let (ours, constant) = (error(&|x| network.predict(x)), error(&|_| mean));
        assert!(ours < 0.15 * constant, "seed 2: {ours} against {constant}");
    }
}
