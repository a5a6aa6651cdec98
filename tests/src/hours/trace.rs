//! An hour, drawn from a seed.

use super::faults::Fault;
use fulcrum_plan::PlanTable;
use fulcrum_plan::problem::Demand;
use fulcrum_plan::select::{Problem, select};
use fulcrum_plan::units::{MicroSec, MilliRps, MilliWatt};
use fulcrum_runtime::arrivals::Process;
use fulcrum_runtime::random::Random;

/// Most faults of an hour.
const FAULTS_MAX: u64 = 3;

/// What happens in an hour, and what was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// What replays it.
    pub seed: u64,
    /// Which of the plans it runs on.
    pub plan: usize,
    /// Budgets, and the mean rate.
    pub demand: Demand,
    /// How requests arrive.
    pub process: Process,
    /// Standard deviation of every duration, as a share of it.
    pub noise: f64,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

impl Trace {
    /// The hour of a seed. Seeds take the kinds of traffic in turn; every second round of them has faults.
    ///
    /// Demands are those of the paper's evaluation of training with inference (fulcrum.md, section 6), as far as the plan
    /// answers them and inference alone could be served at the highest rate.
    #[must_use]
    pub fn draw(plans: &[PlanTable], seed: u64) -> Self {
        let kinds = Process::NAMES.len() as u64;
        let (_, process) = Process::NAMES[(seed % kinds) as usize];
        let mut random = Random::new(seed.wrapping_mul(0x5851_f42d_4c95_7f2d));
        let (plan, demand) = loop {
            let plan = random.below(plans.len() as u64) as usize;
            let demand = Demand {
                power_mw: MilliWatt((15 + random.below(36) as u32) * 1_000),
                latency_us: MicroSec((5 + random.below(16) as u32) * 100_000),
                rate: MilliRps((3 + random.below(10) as u32) * 10_000),
            };
            let peak = Demand {
                rate: MilliRps((f64::from(demand.rate.0) * process.peak()) as u32),
                ..demand
            };
            let answers =
                |problem, demand: &Demand| select(&plans[plan], problem, demand).is_some();
            if answers(Problem::TrainingInference(0), &demand)
                && answers(Problem::Inference(0), &peak)
            {
                break (plan, demand);
            }
        };
        // 0.2 to 2 %, and 15 % where the processor starves (fulcrum.md, section 7).
        let noise = match random.below(10) {
            0 => 0.15,
            _ => 0.002 + 0.018 * random.unit(),
        };
        let count = match seed / kinds % 2 {
            0 => 0,
            _ => 1 + random.below(FAULTS_MAX),
        };
        let mut faults: Vec<Fault> = (0..count).map(|_| Fault::draw(&mut random)).collect();
        faults.sort_by_key(|fault| fault.from_ns);
        Self {
            seed,
            plan,
            demand,
            process,
            noise,
            faults,
        }
    }
}
