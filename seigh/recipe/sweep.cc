#include "seigh/recipe/sweep.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <sstream>
#include <utility>

#include "seigh/core/error.h"
#include "seigh/core/printable.h"
#include "seigh/io/file.h"
#include "seigh/io/limits.h"
#include "seigh/recipe/toml_source.h"

namespace seigh {
namespace {

constexpr int64_t kMostRuns = 10'000;
constexpr size_t kMostName = 100;  // bytes: of a variant, and of its part in the name of a folder
const char* const kBase = "base";

struct Value {
  const toml::node* node;
  std::string where, origin;
  fs::path folder;
};

// A variant before it is a recipe.
struct Variant {
  std::string name;
  TomlSource settings;
  bool of_factor = false;
};

// On one line, numbers as short as they can be; strings in quotes where they are `quoted`.
std::string in_words(const toml::node& node, bool quoted) {
  if (const toml::array* list = node.as_array(); list != nullptr) {
    std::string text;
    for (const toml::node& element : *list)
      text.append(text.empty() ? "" : ", ").append(in_words(element, quoted));
    return "[" + text + "]";
  }
  if (const toml::table* table = node.as_table(); table != nullptr) {
    std::string text;
    for (const auto& [key, value] : *table)
      text.append(text.empty() ? "" : ", ").append(key.str()).append(" = ").append(in_words(value, quoted));
    return "{" + text + "}";
  }
  if (const auto number = node.value_exact<double>(); number) {
    char buffer[32];
    return {buffer, std::to_chars(buffer, buffer + sizeof(buffer), *number).ptr};
  }
  if (const auto text = node.value_exact<std::string>(); text && !quoted) return *text;
  std::ostringstream out;
  node.visit([&](const auto& value) { out << value; });
  return out.str();
}

std::string shown(const toml::node& node) {
  return shortened(in_words(node, /*quoted=*/false), 60);
}

// A value in the name of a variant. Of a file its name and its folder's, which are the same wherever the
// recipe is.
std::string shown(const std::string& key, const toml::node& node, const fs::path& folder) {
  const auto text = node.value_exact<std::string>();
  if (!text || !names_file(key, *text)) return shown(node);
  const fs::path file = located(key, *text, folder);
  return shortened((file.parent_path().filename() / file.filename()).string(), 60);
}

// The keys of [sweep]; the last source that has one decides.
class Keys {
 public:
  explicit Keys(const std::vector<TomlSource>& sources) {
    for (const TomlSource& source : sources) {
      std::map<std::string, const toml::node*> values;
      collect_values(source.table, "", values);
      for (const auto& [key, node] : values) {
        if (!of_sweep(key)) continue;
        if (key == "sweep" && node->is_table()) continue;  // an empty one
        const auto& keys = sweep_keys();
        require(std::any_of(keys.begin(), keys.end(), [&k = key](const SweepKey& s) { return s.name == k; }),
                place(source.origin, *node), ": unknown key \"", shortened(key),
                "\"; the keys of a sweep are ", names());
        values_[key] = {node, place(source.origin, *node), source.origin, source.folder};
      }
    }
  }

  const Value* find(const std::string& key) const {
    const auto found = values_.find("sweep." + key);
    return found == values_.end() ? nullptr : &found->second;
  }

 private:
  static std::string names() {
    std::string text;
    for (const SweepKey& key : sweep_keys()) text += (text.empty() ? "" : ", ") + key.name;
    return text;
  }
  std::map<std::string, Value> values_;
};

int64_t count(const Keys& keys, const char* key) {
  const Value* value = keys.find(key);
  if (value == nullptr) return 1;
  const auto n = value->node->is_integer() ? value->node->value<int64_t>() : std::nullopt;
  require(n && 1 <= *n && *n <= kMostRuns, value->where, ": sweep.", key, " must be a number between 1 and ",
          kMostRuns, ", not ", shown(*value->node));
  return *n;
}

std::vector<int64_t> seeds_of(const Keys& keys, const Recipe& base) {
  const Value* value = keys.find("seeds");
  std::vector<int64_t> seeds;
  const toml::array* list = value == nullptr ? nullptr : value->node->as_array();
  if (list == nullptr) {
    const int64_t n = count(keys, "seeds");
    require(base.seed <= std::numeric_limits<int64_t>::max() - n, "seed ", base.seed, " has no ", n,
            " seeds after it; lower seed");
    for (int64_t i = 0; i < n; ++i) seeds.push_back(base.seed + i);
    return seeds;
  }
  require(!list->empty() && list->size() <= static_cast<size_t>(kMostRuns), value->where,
          ": sweep.seeds must be a number or a list of 1 to ", kMostRuns, " seeds, not of ", list->size());
  std::set<int64_t> seen;
  for (const toml::node& node : *list) {
    const auto seed = node.is_integer() ? node.value<int64_t>() : std::nullopt;
    require(seed && *seed >= 0, value->where,
            ": every element of sweep.seeds must be an integer from 0 on, not ", shown(node));
    require(seen.insert(*seed).second, value->where, ": sweep.seeds names ", *seed, " twice");
    seeds.push_back(*seed);
  }
  return seeds;
}

void put(toml::table& table, const std::string& key, const toml::node& node) {
  toml::table* at = &table;
  size_t begin = 0;
  for (size_t dot = key.find('.'); dot != std::string::npos; dot = key.find('.', begin)) {
    const std::string part = key.substr(begin, dot - begin);
    if (at->get_as<toml::table>(part) == nullptr) at->insert_or_assign(part, toml::table());
    at = at->get_as<toml::table>(part);
    begin = dot + 1;
  }
  node.visit([&](const auto& value) { at->insert_or_assign(key.substr(begin), value); });
}

void refuse_key(const std::string& key, const std::string& where) {
  require(key != "seed", where, ": a variant cannot set seed; sweep.seeds says which seeds there are");
  require(key != "curvature.subset", where,
          ": a variant cannot set curvature.subset; sweep.subsets says how many there are");
  require(key != "name", where, ": a variant cannot set name; it is made of the variant's");
  require(!of_sweep(key), where, ": a variant cannot set ", shortened(key), "; sweeps do not nest");
}

std::string leaf(const std::string& key) {
  return key.substr(key.rfind('.') + 1);
}

struct Factor {
  std::string key, where;
  const toml::array* values;
  fs::path folder;
};

Factor factor_of(const toml::node* key, const toml::node* values, const Value& at) {
  Factor factor{"", at.where, nullptr, at.folder};
  const auto name = key == nullptr || !key->is_string() ? std::nullopt : key->value<std::string>();
  require(name && !name->empty(), at.where,
          ": a factor needs key, the dotted name of a key, as in key = \"train.learning_rate\"");
  factor.key = *name;
  factor.values = values == nullptr ? nullptr : values->as_array();
  require(factor.values != nullptr && !factor.values->empty(), at.where, ": the factor ", shortened(*name),
          " needs values, a list of at least one, as in values = [0.1, 0.3]");
  require(factor.values->size() <= static_cast<size_t>(kMostRuns), at.where, ": the factor ",
          shortened(*name), " has ", factor.values->size(), " values; at most ", kMostRuns, " are possible");
  refuse_key(factor.key, at.where);
  return factor;
}

std::vector<const toml::table*> tables_of(const Value& value, const char* key,
                                          const std::set<std::string>& known) {
  const toml::array* list = value.node->as_array();
  require(list != nullptr, value.where, ": sweep.", key, " must be tables, [[sweep.", key, "]]");
  require(list->size() <= static_cast<size_t>(kMostRuns), value.where, ": sweep.", key, " has ", list->size(),
          " entries; at most ", kMostRuns, " are possible");
  std::vector<const toml::table*> tables;
  for (const toml::node& node : *list) {
    require(node.is_table(), value.where, ": sweep.", key, " must be tables, [[sweep.", key, "]]");
    tables.push_back(node.as_table());
    for (const auto& [name, inner] : *node.as_table())
      require(known.contains(std::string(name.str())), place(value.origin, inner), ": unknown key \"",
              shortened(name.str()), "\" in [[sweep.", key, "]]; it has ", *known.begin(), " and ",
              *known.rbegin());
  }
  return tables;
}

std::vector<Factor> factors_of(const Keys& keys) {
  std::vector<Factor> factors;
  const Value *key = keys.find("key"), *values = keys.find("values");
  if (key != nullptr || values != nullptr)
    factors.push_back(factor_of(key == nullptr ? nullptr : key->node,
                                values == nullptr ? nullptr : values->node,
                                values == nullptr ? *key : *values));
  if (const Value* more = keys.find("factors"); more != nullptr) {
    for (const toml::table* table : tables_of(*more, "factors", {"key", "values"}))
      factors.push_back(factor_of(table->get("key"), table->get("values"),
                                  {table, place(more->origin, *table), more->origin, more->folder}));
  }
  return factors;
}

// Every value of every factor, then the variants by name; of no more than there may be runs.
std::vector<Variant> variants_of(const Keys& keys, const std::vector<Factor>& factors) {
  std::vector<Variant> variants;
  for (const Factor& factor : factors) {
    const bool ambiguous = std::any_of(factors.begin(), factors.end(), [&](const Factor& other) {
      return other.key != factor.key && leaf(other.key) == leaf(factor.key);
    });
    for (const toml::node& node : *factor.values) {
      Variant v{(ambiguous ? factor.key : leaf(factor.key)) + "=" + shown(factor.key, node, factor.folder),
                {factor.where, {}, factor.folder},
                true};
      put(v.settings.table, factor.key, node);
      variants.push_back(std::move(v));
    }
  }
  const Value* named = keys.find("variants");
  if (named == nullptr) return variants;
  for (const toml::table* table : tables_of(*named, "variants", {"name", "set"})) {
    const std::string where = place(named->origin, *table);
    const toml::node *name = table->get("name"), *set = table->get("set");
    const auto text = name == nullptr ? std::nullopt : name->value<std::string>();
    require(text && name->is_string() && !text->empty(), where,
            ": a variant needs a name, as in name = \"wide\"");
    require(printable(*text) == *text && text->size() <= kMostName, where, ": the name \"", shortened(*text),
            "\" of a variant must be printable and of at most ", kMostName, " bytes");
    require(set != nullptr && set->is_table(), where, ": the variant \"", *text,
            "\" needs set, a table of keys, as in set = { \"model.hidden\" = [100, 100] }");
    Variant v{*text, {where, {}, named->folder}, false};
    std::map<std::string, const toml::node*> values;
    collect_values(*set->as_table(), "", values);
    for (const auto& [key, node] : values) {
      refuse_key(key, where);
      put(v.settings.table, key, *node);
    }
    variants.push_back(std::move(v));
  }
  return variants;
}

// A variant's part of the name of a folder: what every file system and shell takes.
std::string safe(const std::string& name) {
  std::string text;
  for (const char c : name) {
    const bool plain =
        std::isalnum(static_cast<unsigned char>(c)) != 0 || std::string("._=+-").find(c) != std::string::npos;
    if (plain && !(c == '.' && text.empty()))
      text += c;
    else if (!text.empty() && text.back() != '-')
      text += '-';
  }
  text = text.substr(0, kMostName);
  while (!text.empty() && text.back() == '-') text.pop_back();
  return text.empty() || text.front() == '-' ? "variant" + text : text;
}

bool same(const Recipe& a, const Recipe& b) {
  return differences(a, b).empty() && differences(b, a).empty();
}

// Names of files absolute, wherever they stand.
void locate_all(toml::table& table, const std::string& prefix, const fs::path& folder) {
  for (auto&& [key, node] : table) {
    const std::string name = prefix + std::string(key.str());
    if (toml::table* inner = node.as_table(); inner != nullptr) {
      locate_all(*inner, name + ".", folder);
    } else if (toml::value<std::string>* text = node.as_string(); text != nullptr) {
      *text = located(name, text->get(), folder);
    }
  }
}

void locate_values(const toml::node* key, toml::node* values, const fs::path& folder) {
  const auto name = key == nullptr ? std::nullopt : key->value<std::string>();
  toml::array* list = values == nullptr ? nullptr : values->as_array();
  if (!name || list == nullptr) return;
  for (toml::node& node : *list)
    if (toml::value<std::string>* text = node.as_string(); text != nullptr)
      *text = located(*name, text->get(), folder);
}

// All sources as one text.
std::string merged(const std::vector<TomlSource>& sources, const std::string& name) {
  toml::table all;
  for (const TomlSource& source : sources) {
    std::map<std::string, const toml::node*> values;
    collect_values(source.table, "", values);
    for (const auto& [key, node] : values) {
      toml::table one;
      put(one, key, *node);
      locate_all(one, "", source.folder);
      if (toml::table* sweep = one.get_as<toml::table>("sweep"); sweep != nullptr) {
        if (toml::array* factors = sweep->get_as<toml::array>("factors"); factors != nullptr)
          for (toml::node& factor : *factors)
            if (toml::table* t = factor.as_table(); t != nullptr)
              locate_values(t->get("key"), t->get("values"), source.folder);
        if (toml::array* variants = sweep->get_as<toml::array>("variants"); variants != nullptr)
          for (toml::node& variant : *variants)
            if (toml::table* t = variant.as_table(); t != nullptr && t->get_as<toml::table>("set") != nullptr)
              locate_all(*t->get_as<toml::table>("set"), "", source.folder);
      }
      std::map<std::string, const toml::node*> placed;
      collect_values(one, "", placed);
      for (const auto& [k, n] : placed) put(all, k, *n);
    }
    if (toml::table* sweep = all.get_as<toml::table>("sweep"); sweep != nullptr && sweep->contains("values"))
      locate_values(sweep->get("key"), sweep->get("values"), source.folder);
  }
  all.insert_or_assign("name", name);
  std::ostringstream out;
  out << all << '\n';
  return out.str();
}

}  // namespace

std::string SweepRun::label(int64_t subsets) const {
  return variant + ", seed " + std::to_string(seed) +
         (subsets > 1 ? ", subset " + std::to_string(subset) : std::string());
}

const std::vector<SweepKey>& sweep_keys() {
  static const std::vector<SweepKey> keys = {
      {"sweep.seeds", "integer or integers, default 1",
       "A recipe with keys of [sweep] is a folder of runs (docs/sweeps.md). Runs of every variant: with so "
       "many seeds from seed on, or with these."},
      {"sweep.subsets", "integer, default 1",
       "Every run also on so many disjoint subsets of samples (curvature.subset), which share its training."},
      {"sweep.key", "string", "A factor: the key that sweep.values are of."},
      {"sweep.values", "list", "Its values, a variant each beside the recipe itself, which is called base."},
      {"sweep.factors", "tables", "More factors, [[sweep.factors]] with key and values: one at a time."},
      {"sweep.variants", "tables",
       "Variants of several keys, [[sweep.variants]] with name and set, a table of keys."},
      {"sweep.base", "bool", "Whether the recipe itself is run; default: unless there are variants alone."},
      {"sweep.at_loss", "number",
       "Compare variants also where their training loss, on the first 1000 training samples, falls to this."},
  };
  return keys;
}

bool is_sweep(const fs::path& path, const std::vector<std::string>& overrides) {
  const std::vector<TomlSource> sources =
      toml_sources(read_file(path, kMostRecipeBytes), path.string(), overrides);
  return std::any_of(sources.begin(), sources.end(), names_sweep);
}

Sweep load_sweep(const fs::path& path, const std::vector<std::string>& overrides) {
  return parse_sweep(read_file(path, kMostRecipeBytes), path.string(), overrides);
}

Sweep parse_sweep(const std::string& text, const std::string& origin,
                  const std::vector<std::string>& overrides) {
  const std::vector<TomlSource> sources = toml_sources(text, origin, overrides);
  std::vector<const TomlSource*> plain;
  for (const TomlSource& source : sources) plain.push_back(&source);
  const Keys keys(sources);
  const Recipe base = resolve_sources(plain);

  Sweep sweep;
  sweep.name = base.name;
  const std::vector<int64_t> seeds = seeds_of(keys, base);
  sweep.seeds = static_cast<int64_t>(seeds.size());
  sweep.subsets = count(keys, "subsets");
  if (const Value* loss = keys.find("at_loss"); loss != nullptr) {
    const auto value = loss->node->is_number() ? loss->node->value<double>() : std::nullopt;
    require(value && std::isfinite(*value), loss->where, ": sweep.at_loss must be a number, not ",
            shown(*loss->node));
    sweep.at_loss = *value;
  }
  const std::vector<Factor> factors = factors_of(keys);
  std::vector<Variant> variants = variants_of(keys, factors);
  bool with_base = !factors.empty() || variants.empty();
  if (const Value* given = keys.find("base"); given != nullptr) {
    const auto value = given->node->is_boolean() ? given->node->value<bool>() : std::nullopt;
    require(value.has_value(), given->where, ": sweep.base must be true or false");
    require(*value || !variants.empty(), given->where, ": sweep.base = false leaves no runs; add a variant");
    with_base = *value;
  }
  const auto most = static_cast<int64_t>(variants.size()) + (with_base ? 1 : 0);
  const int64_t runs = most * sweep.seeds;  // both at most a few times 10^4
  require(runs <= kMostRuns && runs * sweep.subsets <= kMostRuns, origin, ": the sweep is of ", most,
          " variants, ", sweep.seeds, " seeds and ", sweep.subsets, " subsets, more than ", kMostRuns,
          " runs in all");

  // Which variants there are, by the recipe of the first seed.
  std::vector<Variant> kept;
  std::set<std::string> changing;  // factors
  if (with_base) kept.push_back({kBase, {origin, {}, {}}, false});
  for (Variant& v : variants) {
    require(!with_base || v.name != kBase, v.settings.origin,
            ": \"base\" is the name of the recipe itself; give the variant another");
    std::vector<const TomlSource*> all = plain;
    all.push_back(&v.settings);
    const bool is_base = v.of_factor && same(base, resolve_sources(all));
    if (!is_base) changing.insert(v.settings.origin);
    if (!is_base || !with_base) kept.push_back(std::move(v));
  }
  for (const Factor& factor : factors)
    require(changing.contains(factor.where), factor.where, ": no value of ", factor.key,
            " changes anything: they are the recipe's own, or the key does not matter to it");
  std::set<std::string> names;
  std::map<std::string, std::string> folders;
  for (const Variant& v : kept) {
    require(names.insert(v.name).second, v.settings.origin, ": there are two variants \"", v.name,
            "\"; give each a name, and each value, once");
    const auto [other, fresh] = folders.insert({safe(v.name), v.name});
    require(fresh, v.settings.origin, ": the variants \"", other->second, "\" and \"", v.name,
            "\" would have the same folder, ", other->first,
            "; name one otherwise ([[sweep.variants]] with a name and set)");
    sweep.variants.push_back(v.name);
  }
  if (with_base) sweep.base = kBase;

  for (const int64_t seed : seeds) {
    for (const Variant& v : kept) {
      for (int64_t subset = 0; subset < sweep.subsets; ++subset) {
        TomlSource number{origin, {}, {}};
        number.table.insert("seed", seed);
        number.table.insert("curvature", toml::table{{"subset", base.curvature.subset + subset}});
        std::vector<const TomlSource*> all = plain;
        all.push_back(&v.settings);
        all.push_back(&number);
        SweepRun run;
        run.variant = v.name;
        run.seed = seed;
        run.subset = base.curvature.subset + subset;
        run.recipe = resolve_sources(all);
        run.folder = safe(v.name) + "-seed-" + std::to_string(seed);
        // The first keeps its folder when more are asked for later.
        if (subset > 0) run.folder += "-subset-" + std::to_string(run.subset);
        run.recipe.name = sweep.name + ": " + run.label(sweep.subsets);
        std::replace(run.recipe.name.begin(), run.recipe.name.end(), '/', '-');
        std::map<std::string, const toml::node*> values;
        collect_values(v.settings.table, "", values);
        for (const auto& [key, node] : values)
          run.overrides.push_back(key + " = " + in_words(*node, /*quoted=*/true));
        sweep.runs.push_back(std::move(run));
      }
    }
  }
  sweep.text = merged(sources, sweep.name);
  return sweep;
}

}  // namespace seigh
