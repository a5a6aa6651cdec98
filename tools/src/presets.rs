//! NVIDIA's presets beside a plan: each is measured like a mode of the plan, and put next to the fastest mode
//! that the plan has for no more power.

use crate::nvpmodel::NamedMode;
use crate::table::Table;
use fulcrum_plan::{Cell, PlanTable};
use fulcrum_planner::profile::{ProfileError, ProfileSource, Run};
use fulcrum_planner::workload::Role;

/// What a preset was measured with, and what the plan has for its power.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Name of the preset.
    pub preset: String,
    /// Workload and batch size.
    pub workload: String,
    /// What the preset measured, or why it did not.
    pub measured: Result<Cell, String>,
    /// The plan's fastest cell of this workload and batch size at no more power; `None` if all its modes
    /// draw more.
    pub planned: Option<Cell>,
}

/// Measures every preset with every workload and batch size of a plan.
///
/// # Errors
/// The board was lost, or the journal failed.
pub fn compare(
    plan: &PlanTable,
    source: &mut dyn ProfileSource,
    presets: &[NamedMode],
) -> Result<Vec<Compared>, ProfileError> {
    let mut compared = Vec::new();
    for preset in presets {
        for (slot, run) in runs(plan, preset) {
            let measured = match source.profile(&run) {
                Ok(measurement) => match measurement.fault(&run.mode) {
                    None => Ok(measurement.cell),
                    Some(fault) => Err(format!("not trusted ({fault:?})")),
                },
                Err(ProfileError::Refused { reason, .. }) => Err(reason),
                Err(error @ ProfileError::NotMeasured { .. }) => Err(error.to_string()),
                Err(error) => return Err(error),
            };
            let planned = measured.as_ref().ok().and_then(|preset| {
                let cells = plan.rows.iter().filter_map(|row| row.cell(slot));
                let affordable = cells.filter(|cell| cell.power_mw <= preset.power_mw);
                affordable
                    .min_by_key(|cell| (cell.time_us, cell.power_mw))
                    .copied()
            });
            compared.push(Compared {
                preset: preset.name.clone(),
                workload: format!("{} b{}", run.workload, run.batch),
                measured,
                planned,
            });
        }
    }
    Ok(compared)
}

/// The runs of a preset, with the slots of the plan that they compare with.
fn runs(plan: &PlanTable, preset: &NamedMode) -> Vec<(usize, Run)> {
    let run = |role, name: &str, batch| Run {
        mode: preset.mode,
        role,
        workload: name.to_owned(),
        batch,
    };
    let train = plan.slot_train().zip(plan.train.as_ref());
    let mut runs: Vec<(usize, Run)> = train
        .and_then(|(slot, train)| {
            Some((slot, run(Role::Train, &train.name, *train.batches.first()?)))
        })
        .into_iter()
        .collect();
    for (index, workload) in plan.infer.iter().enumerate() {
        let slots = plan.slots_infer(index);
        runs.extend(slots.map(|(slot, batch)| (slot, run(Role::Infer, &workload.name, batch))));
    }
    runs
}

/// For people.
#[must_use]
pub fn table(compared: &[Compared]) -> Table {
    let mut table = Table::new(&[
        "preset", "workload", "ms", "W", "plan ms", "plan W", "faster",
    ]);
    for line in compared {
        let mut row = vec![line.preset.clone(), line.workload.clone()];
        match &line.measured {
            Ok(preset) => {
                row.extend(cells(Some(preset)));
                row.extend(cells(line.planned.as_ref()));
                row.push(line.planned.map_or_else(
                    || "- (every mode of the plan draws more)".to_owned(),
                    |planned| {
                        let gain = f64::from(preset.time_us.0) / f64::from(planned.time_us.0);
                        format!("{:.1} %", (gain - 1.0) * 100.0)
                    },
                ));
            }
            Err(reason) => {
                row.extend(["-"; 4].map(str::to_owned));
                row.push(format!("- ({reason})"));
            }
        }
        table.push(row);
    }
    table
}

fn cells(cell: Option<&Cell>) -> [String; 2] {
    cell.map_or_else(
        || ["-".to_owned(), "-".to_owned()],
        |cell| {
            let (time_us, power_mw) = (f64::from(cell.time_us.0), f64::from(cell.power_mw.0));
            [
                format!("{:.2}", time_us / 1e3),
                format!("{:.2}", power_mw / 1e3),
            ]
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use fulcrum_plan::units::Khz;
    use fulcrum_plan::{PowerMode, Workload};
    use fulcrum_planner::boards;
    use fulcrum_planner::margin::Margin;
    use fulcrum_planner::plan::{PlanRequest, make};
    use fulcrum_planner::prior::Prior;
    use fulcrum_planner::profile::synthetic::Synthetic;
    use fulcrum_planner::space::Grid;

    fn named(name: &str, mode: PowerMode) -> NamedMode {
        NamedMode {
            id: 0,
            name: name.to_owned(),
            mode,
            masks: Vec::new(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn a_preset_stands_beside_the_fastest_mode_for_its_power() {
        let orin = boards::named("orin-agx").unwrap();
        let mut source = Synthetic::new(orin, 1).without_noise();
        let request = PlanRequest {
            train: Some("lstm".to_owned()),
            infer: vec!["mobilenetv3".to_owned()],
            strategy: "rnd:60".parse().unwrap(),
            max_profiles: None,
            seed: 1,
            grid: Grid::All,
            demand: None,
            prior: Prior::default(),
            margin: Margin::default(),
        };
        let (plan, _) = make(&mut source, orin, &request, &mut |_, _, _, _| {}).unwrap();
        // MODE_30W of NVIDIA's AGX Orin, a mode of the plan, and one of another firmware.
        let preset = PowerMode {
            cores: 8,
            cpu_khz: Khz(1_728_000),
            gpu_khz: Khz(624_750),
            emc_khz: Khz(3_199_000),
        };
        let other = PowerMode {
            gpu_khz: Khz(612_000),
            ..preset
        };
        let own = plan.rows[0].mode;
        let presets = [
            named("30W", preset),
            named("own", own),
            named("other", other),
        ];
        let compared = compare(&plan, &mut source, &presets).unwrap();
        let batches: usize = plan
            .infer
            .iter()
            .map(|Workload { batches, .. }| batches.len())
            .sum();
        assert_eq!(compared.len(), 3 * (1 + batches));
        for line in &compared {
            match (line.preset.as_str(), &line.measured, line.planned) {
                ("other", Err(_), None) => {}
                ("30W" | "own", Ok(preset), Some(planned)) => {
                    assert!(planned.power_mw <= preset.power_mw, "{line:?}");
                    // What the plan measured itself cannot be beaten by its own mode.
                    assert!(line.preset == "30W" || planned.time_us <= preset.time_us);
                }
                ("30W", Ok(_), None) => {}
                _ => panic!("{line:?}"),
            }
        }
        let text = table(&compared).to_string();
        assert!(
            text.contains("mobilenetv3 b1") && text.contains(" %"),
            "{text}"
        );
    }
}
