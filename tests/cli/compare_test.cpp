// linnet compare, as a user runs it, on a tiny model.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "attention/method.h"
#include "base/file.h"
#include "base/json.h"
#include "tests/cli/training_program.h"

namespace linnet {
namespace {

using testing::AnyOf;
using testing::HasSubstr;
using testing::Not;

class CompareProgram : public TrainingProgram {
 protected:
  void SetUp() override {
    const Outcome base = run_train(pretrain({"--tokens", "0", "-o", path("base")}));
    ASSERT_EQ(base.status, 0) << base.err;
  }
  /// A grid of two methods on rows of 16 tokens, measured in rows alone, with these keys changed.
  std::string grid(const nlohmann::json& changes = nlohmann::json::object()) const {
    nlohmann::json object = {
        {"methods", {"relu", "t2r"}},
        {"variants", {"local"}},
        {"tokens", 64},
        {"batch", 2},
        {"context", 16},
        {"group", 4},
        {"options", {{"dtype", "float32"}}},
        {"measures",
         {{"rows", {{"window", 16}, {"to", 24}}}, {"stream", false}, {"recall", false}, {"decode", false}}}};
    object.update(changes);
    write_file(path("grid.json"), object.dump());
    return path("grid.json");
  }
  std::vector<std::string> line(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> all = {"compare",   path("base"), "--grid",  path("grid.json"),
                                    "--data",    text(),       "--valid", valid(),
                                    "--threads", "1",          "-o",      path("out")};
    all.insert(all.end(), more.begin(), more.end());
    return all;
  }
  Outcome compare(const std::vector<std::string>& more = {}) const { return run_train(line(more)); }
  nlohmann::json cell(const std::string& name) const {
    return read_json(fs::path(path("out")) / "cells" / (name + ".json"));
  }
  std::vector<std::string> cells() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(fs::path(path("out")) / "cells"))
      if (const std::string name = entry.path().stem(); !name.starts_with("window.")) names.push_back(name);
    std::sort(names.begin(), names.end());
    return names;
  }
};

const std::vector<std::string> kCells = {"base", "relu.local.transfer.lora.0", "t2r.local.transfer.lora.0"};

TEST_F(CompareProgram, MakesOneTableOfCellsThatCanBeRunByHand) {
  grid();
  const Outcome outcome = compare();
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(cells(), kCells);
  EXPECT_FALSE(fs::exists(path("out/work")));
  const nlohmann::json all = read_json(path("out/compare.json"));
  ASSERT_EQ(all["rows"].size(), 4u);  // and the window alone that both hold as many bytes as
  for (const nlohmann::json& row : all["rows"]) EXPECT_GT(row["values"]["bits"]["mean"], 0) << row;
  EXPECT_EQ(all["rows"][2]["tokens"], 64);
  EXPECT_GT(all["rows"][2]["values"]["window_bits"]["mean"], 0);
  EXPECT_GE(all["rows"][2]["curve"].size(), 2u);
  std::ostringstream markdown;
  markdown << outcome.out;
  EXPECT_THAT(markdown.str(), HasSubstr("| t2r | local | transfer | lora ("));
  const std::string page(MappedFile(path("out/compare.html")).text());
  EXPECT_THAT(page, HasSubstr("<svg"));
  EXPECT_THAT(page, Not(HasSubstr("http://www.w3.org/1999")));
  // The commands of a cell, typed by hand, give its numbers.
  const nlohmann::json result = cell("t2r.local.transfer.lora.0");
  for (const nlohmann::json& command : result["commands"]) {
    std::istringstream words(command.get<std::string>().substr(7));
    std::vector<std::string> arguments;
    for (std::string word; words >> word;) {
      const size_t at = word.find("/out/work/");
      arguments.push_back(at == word.npos ? word : path("by-hand") + word.substr(word.rfind('/')));
    }
    arguments.insert(arguments.end(), {"--threads", "1"});
    fs::create_directory(path("by-hand"));
    const bool trains = arguments.front() == "linearize";
    const Outcome by_hand = trains ? run_train(arguments) : run_linnet(arguments);
    ASSERT_EQ(by_hand.status, 0) << by_hand.err;
  }
  const nlohmann::json rows = read_json(path("by-hand/rows.json"));
  EXPECT_EQ(rows["bits_per_byte"], result["rows"]["bits_per_byte"]);
}

TEST_F(CompareProgram, DoesNothingTwiceAndRefusesWhatHasChanged) {
  grid();
  ASSERT_EQ(compare({"--only", "[br]*"}).status, 0);
  EXPECT_EQ(cells(), std::vector<std::string>(kCells.begin(), kCells.begin() + 2));
  const nlohmann::json before = cell(kCells[1]);
  const Outcome rest = compare();
  ASSERT_EQ(rest.status, 0) << rest.err;
  EXPECT_THAT(rest.err, HasSubstr("3 cells, 2 of them there"));
  EXPECT_EQ(cell(kCells[1]), before);
  EXPECT_EQ(cells(), kCells);

  grid({{"tokens", 96}});
  const Outcome changed = compare();
  EXPECT_EQ(changed.status, 2);
  EXPECT_THAT(changed.err,
              HasSubstr("relu.local.transfer.lora.0.json: is a result of another setting of the grid, "
                        "expected --anew"));
  write_file(valid(), "a third story, as short.");
  EXPECT_THAT(compare().err, HasSubstr("base.json: is a result of another --valid, expected"));
  const Outcome anew = compare({"--anew", "--keep-models"});
  ASSERT_EQ(anew.status, 0) << anew.err;
  EXPECT_EQ(cell(kCells[1])["about"]["tokens"], 96);
  EXPECT_TRUE(fs::exists(fs::path(path("out")) / "work" / kCells[1] / "model/config.json"));
}

TEST_F(CompareProgram, RecordsACellThatFailsAndGoesOn) {
  // With groups of 16 every layer sees rows of 16 whole: nothing can learn.
  grid({{"methods", {"t2r"}},
        {"variants", nlohmann::json::array()},
        {"train", {"new"}},
        {"sweep", {{"group", {16, 4}}}},
        {"set", {{"local", "softmax"}}}});
  const Outcome outcome = compare();
  EXPECT_EQ(outcome.status, 1) << outcome.err;
  EXPECT_THAT(outcome.err,
              HasSubstr("t2r.group=16.transfer.new.0: failed: --context: 16: every layer sees all"));
  EXPECT_THAT(outcome.out, HasSubstr("- t2r.group=16.transfer.new.0 failed: --context"));
  EXPECT_THAT(cell("t2r.group=16.transfer.new.0")["failed"].get<std::string>(),
              HasSubstr("nothing can learn"));
  EXPECT_GT(cell("t2r.group=4.transfer.new.0")["rows"]["bits_per_byte"], 0);
  EXPECT_EQ(compare().status, 1);  // tried again
  EXPECT_EQ(compare({"--table"}).status, 0);
}

TEST_F(CompareProgram, JoinsSharesAndSeedsInOneTable) {
  grid({{"methods", {"relu"}}, {"seeds", {0, 1}}});
  ASSERT_EQ(compare({"--shard", "2/2"}).status, 0);
  EXPECT_EQ(cells(), std::vector<std::string>{"relu.local.transfer.lora.0"});
  ASSERT_EQ(compare({"--shard", "1/2"}).status, 0);
  const Outcome table = compare({"--table"});
  ASSERT_EQ(table.status, 0) << table.err;
  EXPECT_THAT(table.out, Not(HasSubstr("not there yet")));
  const nlohmann::json all = read_json(path("out/compare.json"));
  ASSERT_EQ(all["rows"].size(), 3u);
  EXPECT_EQ(all["rows"][1]["seeds"], (nlohmann::json{0, 1}));
  const double mean = (cell("relu.local.transfer.lora.0")["rows"]["bits_per_byte"].get<double>() +
                       cell("relu.local.transfer.lora.1")["rows"]["bits_per_byte"].get<double>()) /
                      2;
  EXPECT_NEAR(all["rows"][1]["values"]["bits"]["mean"], mean, 1e-12);
  // A method may be called what the windows are that stand beside cells untrained.
  grid({{"methods", {"relu", {{"name", "window"}, {"method", "relu"}}}}, {"seeds", {0, 1}}});
  ASSERT_EQ(compare().status, 0);
  EXPECT_EQ(read_json(path("out/compare.json"))["rows"][2]["seeds"], (nlohmann::json{0, 1}));
}

TEST_F(CompareProgram, SaysWhereCellsWereTrainedInDifferentArithmetic) {
  grid();
  const Outcome alike = compare();
  ASSERT_EQ(alike.status, 0) << alike.err;
  EXPECT_THAT(alike.out, Not(HasSubstr("different arithmetic")));
  // As a machine leaves it whose --dtype auto is another.
  nlohmann::json other = cell(kCells[1]);
  EXPECT_EQ(other["training"]["dtype"], "float32");
  other["training"]["dtype"] = "bfloat16";
  write_file(fs::path(path("out")) / "cells" / (kCells[1] + ".json"), other.dump());
  EXPECT_THAT(compare({"--table"}).out,
              HasSubstr("- Trained in different arithmetic: 1 cell in bfloat16, 1 cell in float32"));
}

TEST_F(CompareProgram, LeavesACellToTheProcessThatIsAtIt) {
  grid({{"methods", {"relu"}}});
  fs::create_directories(path("out/work"));
  const std::string lock = path("out/work/relu.local.transfer.lora.0.lock");
  const int other = ::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
  ASSERT_EQ(::flock(other, LOCK_EX | LOCK_NB), 0);
  const Outcome outcome = compare();
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("1 cell left to other processes"));
  EXPECT_THAT(outcome.out, HasSubstr("- 1 cell of the grid is not there yet."));
  EXPECT_EQ(cells(), std::vector<std::string>{"base"});
  ::close(other);  // it ended without a result
  EXPECT_EQ(compare().status, 0);
  EXPECT_EQ(cells().size(), 2u);
}

TEST_F(CompareProgram, RefusesFilesThatHoldNoResult) {
  grid();
  fs::create_directories(path("out/cells"));
  for (const char* text :
       {"{}", "[]", "{\"cell\": 1}", "{\"cell\": \"base\", \"about\": {}, \"identity\": {}}", "",
        "{\"cell\": \"base\", \"about\": {\"method\": \"base\"}, \"identity\": 1}",
        "{\"cell\": \"base\", \"about\": {\"method\": \"base\"}, \"identity\": {}, \"training\": null}",
        "{\"cell\": \"base\", \"about\": {\"method\": \"base\"}, \"identity\": {}, \"window\": 1}",
        "{\"cell\": \"base\", \"about\": {\"method\": \"base\"}, \"identity\": {}, \"rows\": {}}"}) {
    write_file(path("out/cells/base.json"), text);
    const Outcome outcome = compare();
    EXPECT_EQ(outcome.status, 2) << text;
    EXPECT_THAT(outcome.err, HasSubstr("base.json")) << text;
  }
}

TEST_F(CompareProgram, LeavesWhatIsFinishedUsableUponCtrlC) {
  grid();
  const Outcome stopped = run_linnet(line(), {.interrupt = true, .program = cli::run_train_commands});
  EXPECT_EQ(stopped.status, 130) << stopped.err;
  // While the base and texts are read and nothing is begun, there is nothing to go on with.
  EXPECT_THAT(stopped.err, AnyOf(HasSubstr("the same command goes on"), HasSubstr("nothing written")));
  EXPECT_EQ(compare().status, 0);
  EXPECT_EQ(cells(), kCells);
}

TEST_F(CompareProgram, RefusesATableOfAFolderThatIsNotThere) {
  grid();
  const Outcome outcome = compare({"--table"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_THAT(outcome.err, HasSubstr("out: not there, expected a folder that linnet compare has filled"));
  EXPECT_FALSE(fs::exists(path("out")));
  EXPECT_THAT(compare({"--table", "--anew"}).err, HasSubstr("--anew: given with --table"));
}

TEST_F(CompareProgram, ListsCellsAndWhyOthersAreLeftOut) {
  grid({{"methods", {"softmax", "grouped", "flash_local"}},
        {"variants", {"plain", "local+conv+gate+decay"}},
        {"recipes", {"finetune", "transfer"}}});
  const Outcome outcome = compare({"--list"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_FALSE(fs::exists(path("out")));
  EXPECT_THAT(outcome.out, HasSubstr("softmax.plain.finetune.lora.0\n  linnet linearize "));
  EXPECT_THAT(outcome.out,
              HasSubstr("left out: softmax.plain.transfer.lora.0: the base's outputs are its own"));
  EXPECT_THAT(outcome.out, HasSubstr("left out: grouped.plain: its local branch is part of it"));
  EXPECT_THAT(outcome.out, HasSubstr("left out: flash_local.local+conv+gate+decay: has no summary"));
}

TEST_F(CompareProgram, HasPlainOrAugmentedCellsOfEveryMethod) {
  nlohmann::json names;
  for (const Method* method : methods()) names.push_back(method->name);
  grid({{"methods", names},
        {"variants", {"plain", "local", "conv", "local+conv", "local+conv+gate+decay", "budgets"}},
        {"recipes", {"finetune"}}});
  const Outcome outcome = compare({"--list"});
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  for (const Method* method : methods()) {
    const std::string name(method->name), cell = "\n" + name + ".";
    EXPECT_THAT(outcome.out, HasSubstr(cell)) << name;
    const bool augmented = outcome.out.find(cell + "local+conv+gate+decay.") != std::string::npos;
    EXPECT_EQ(augmented, !method->grows && method->summary != SummaryKind::kNone) << name;
  }
}

TEST_F(CompareProgram, RefusesGridsByName) {
  const std::pair<nlohmann::json, const char*> rows[] = {
      {{{"method", {"relu"}}}, "grid.json: key \"method\", expected one of"},
      {{{"methods", {"rule"}}}, "did you mean relu?"},
      {{{"methods", "relu"}}, "\"methods\" is \"relu\", expected an array"},
      {{{"methods", {1}}}, "expected words and objects"},
      {{{"variants", {"locl"}}}, "did you mean local?"},
      {{{"variants", {{{"name", "a/b"}, {"set", {{"group", 4}}}}}}}, "the name \"a/b\""},
      {{{"recipes", {"distill"}}}, "distill, expected transfer or finetune"},
      {{{"train", {"none"}}}, "none, expected new, lora, attention or all"},
      {{{"seeds", {-1}}}, "\"seeds\""},
      {{{"tokens", "many"}}, "\"tokens\" is \"many\""},
      {{{"group", 0}}, "relu local: linear_attention.group: 0, expected"},
      {{{"sweep", {{"group", 4}}}}, "\"sweep\""},
      {{{"sweep", {{"grup", {4}}}}}, "did you mean group?"},
      {{{"measures", {{"rows", {{"wide", 1}}}}}}, "measures.rows: key \"wide\""},
      {{{"measures", {{"decode", nullptr}}}}, "measures: \"decode\" is null"},
      {{{"options", {{"lrr", 1}}}}, "unknown option \"--lrr\""},
      {{{"options", {{"tokens", 1}}}}, "tokens, expected an option that the grid does not set"},
      {{{"options", {{"lr", "fast"}}}}, "--lr: fast"},
      {{{"blocks", 1}}, "\"blocks\" is no array"},
      {{{"blocks", {{{"measures", false}}}}}, "blocks[0]: key \"measures\""},
      {{{"blocks", {{{"seeds", {0}}}, {{"seeds", {0}}}}}}, "a second cell \"relu.local.transfer.lora.0\""},
  };
  for (const auto& [changes, message] : rows) {
    grid(changes);
    const Outcome outcome = compare();
    EXPECT_EQ(outcome.status, 2) << changes << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(message)) << changes;
    EXPECT_FALSE(fs::exists(path("out"))) << changes;
  }
  write_file(path("grid.json"), "[]");
  EXPECT_THAT(compare().err, HasSubstr("grid.json: not a JSON object"));
  grid();
  const std::pair<std::vector<std::string>, const char*> lines[] = {
      {{"--shard", "3/2"}, "--shard: 3/2, expected I/N"},
      {{"--only", "none*"}, "--only: no cell is named none*"},
      {{"--only", ""}, "--only: "},
      {{"--shard", ""}, "--shard: "},
      {{"--table", "--list"}, "--table: given with --list"},
      {{"--device", "cuda:9"}, "--device"},
      {{"--valid", text()}, "stands in --data and in --valid"},
      {{"--data", "-"}, "--data: standard input, which can be read once"},
  };
  for (const auto& [more, message] : lines) {
    const Outcome outcome = compare(more);
    EXPECT_EQ(outcome.status, 2) << message;
    EXPECT_THAT(outcome.err, HasSubstr(message));
    EXPECT_FALSE(fs::exists(path("out"))) << message;
  }
}

}  // namespace
}  // namespace linnet
