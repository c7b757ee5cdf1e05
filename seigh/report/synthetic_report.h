// The synthetic study in words, and its page.
#pragma once

#include <string>
#include <vector>

#include "seigh/recipe/synthetic.h"
#include "seigh/results/synthetic_file.h"

namespace seigh {

/// What the study finds, with its numbers: a table of metrics and a sentence.
std::vector<std::string> synthetic_headline(const SyntheticStudy& study);
/// The data of the page (web/README.md).
std::string synthetic_page_data(const SyntheticRecipe& recipe, const SyntheticFile& file);

}  // namespace seigh
