//! From which probability on a voxel is drawn.

use serde::Deserialize;

/// How a model's masks are cut out of its probabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Threshold {
    /// At one half: what is rather in than out.
    #[default]
    Half,
    /// Below one half where a low Dice is predicted: half the way to where the mask of the highest expected Dice is cut, which is
    /// half of that Dice (Lipton, Elkan and Naryanaswamy, arXiv 1402.1892). A small structure of which little is certain is
    /// drawn wider than its sure core. The whole way would draw too much: logits averaged over views are flatter than
    /// those of one (`weights/README.md` has the figures). Below a predicted Dice of one half the cut rises again, to one half at 0:
    /// what is hardly believed to be there is not to fill the picture.
    PredictedDice,
}

impl Threshold {
    /// The probability above which a voxel is in the mask, 0.375 to 0.5; one half where no Dice is predicted.
    pub fn probability(self, predicted_dice: Option<f32>) -> f32 {
        match (self, predicted_dice) {
            (Self::PredictedDice, Some(dice)) => {
                let dice = dice.clamp(0.0, 1.0);
                (1.0 + dice.max(1.0 - dice)) / 4.0
            }
            _ => 0.5,
        }
    }

    /// The same as a logit, 0 or below.
    pub fn logit(self, predicted_dice: Option<f32>) -> f32 {
        logit(self.probability(predicted_dice))
    }
}

/// The logit of a probability.
pub(super) fn logit(probability: f32) -> f32 {
    (probability / (1.0 - probability)).ln()
}

/// The probability of a logit.
pub(super) fn sigmoid(logit: f32) -> f32 {
    1.0 / (1.0 + (-logit).exp())
}

#[cfg(test)]
mod tests {
    use super::Threshold::{Half, PredictedDice};
    use super::sigmoid;

    #[test]
    fn the_cut_falls_with_the_predicted_dice_down_to_one_half() {
        let at = |dice| PredictedDice.probability(Some(dice));
        for (dice, want) in [
            (1.0, 0.5),
            (0.8, 0.45),
            (0.5, 0.375),
            (0.2, 0.45),
            (0.0, 0.5),
        ] {
            assert!((at(dice) - want).abs() < 1e-6, "{dice}: {}", at(dice));
        }
        // A sigmoid never leaves 0 to 1; what a user's own weights predict may.
        assert_eq!((at(1.5), at(-3.0)), (0.5, 0.5));
        assert_eq!(PredictedDice.probability(None), 0.5);
        assert_eq!(Half.probability(Some(0.6)), 0.5);
        assert_eq!(Half.logit(Some(0.6)), 0.0);
        let logit = PredictedDice.logit(Some(0.6));
        assert!((sigmoid(logit) - 0.4).abs() < 1e-6, "{logit}");
    }
}
