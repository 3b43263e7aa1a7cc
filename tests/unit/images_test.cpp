// Image files as they move: read while they grow, written only where and as far as allowed.
#include "criu_glue/images.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "criu_glue/files.pb.h"
#include "criu_glue/memory.hpp"

namespace lifeboat {
namespace {

namespace fs = std::filesystem;

class Images : public ::testing::Test {
 protected:
  void SetUp() override {
    char path[] = "/dev/shm/lifeboat-images-XXXXXX";
    ASSERT_NE(::mkdtemp(path), nullptr);
    path_ = path;
  }
  void TearDown() override { fs::remove_all(path_); }

  void append(const std::string& name, const std::string& text) const {
    std::ofstream(path_ + "/" + name, std::ios::app | std::ios::binary) << text;
  }

  // All that can be had now, as "NAME@OFFSET:TEXT ".
  static std::string drain(ImageReader& reader, std::size_t capacity = 4) {
    std::string all;
    std::vector<unsigned char> buffer(capacity);
    for (;;) {
      const auto chunk = reader.next(buffer.data(), buffer.size());
      EXPECT_TRUE(chunk.has_value());
      if (!chunk || chunk->size == 0) return all;
      all += reader.files()[chunk->file].name + "@" + std::to_string(chunk->offset) + ":" +
             std::string(buffer.begin(), buffer.begin() + static_cast<long>(chunk->size)) + " ";
    }
  }

  static ImageChunk chunk(std::uint32_t file, std::uint64_t offset, std::size_t size) {
    ImageChunk out;
    out.file = file;
    out.offset = offset;
    out.size = size;
    return out;
  }

  static std::string refused(const Status& status, Errc code = Errc::kProtocol) {
    EXPECT_FALSE(status.has_value());
    if (status) return {};
    EXPECT_EQ(status.error().code, code) << status.error().message;
    return status.error().message;
  }

  static const unsigned char* bytes(const char* text) {
    return reinterpret_cast<const unsigned char*>(text);
  }

  std::string path_;
};

TEST_F(Images, ReaderFollowsAGrowingFile) {
  ImageReader reader(path_);
  ASSERT_TRUE(reader.scan(false));
  EXPECT_EQ(drain(reader), "");
  append("pages-1.img", "abcdef");
  append("core-1.img", "core");  // may still change: not before the dump is complete
  ASSERT_TRUE(reader.scan(false));
  EXPECT_EQ(drain(reader), "pages-1.img@0:abcd ") << "CRIU is in the middle of a page";
  append("pages-1.img", "gh");
  EXPECT_EQ(drain(reader), "pages-1.img@4:efgh ");
  EXPECT_EQ(drain(reader), "");
  append("pages-1.img", "i");
  ASSERT_TRUE(reader.scan(true));
  EXPECT_EQ(drain(reader), "pages-1.img@8:i core-1.img@0:core ");
  EXPECT_EQ(reader.files().size(), 2u);
  EXPECT_EQ(reader.bytes(), 13u);
}

namespace {

// As CRIU writes it: the size, then the message.
template <class Message>
std::string entry(const Message& message) {
  const std::string bytes = message.SerializeAsString();
  const auto size = static_cast<std::uint32_t>(bytes.size());
  return std::string(reinterpret_cast<const char*>(&size), sizeof size) + bytes;
}

std::string ghost_header(bool chunks) {
  criu::GhostFile file;
  file.set_chunks(chunks);
  return "MAGICS.." + entry(file);
}

std::string ghost_chunk(std::uint64_t bytes) {
  criu::GhostChunk chunk;
  chunk.set_bytes(bytes);
  return entry(chunk);
}

}  // namespace

// What begins at a page's border of the file is told apart from the headers between.
TEST_F(Images, ReaderFindsThePagesOfAGhostFile) {
  const std::string page(kPageBytes, 'p');
  const std::string header = ghost_header(true), chunk = ghost_chunk(kPageBytes), last = ghost_chunk(5);
  ImageReader reader(path_);
  append("ghost-file-1.img", header.substr(0, 5));
  ASSERT_TRUE(reader.scan(false));
  std::vector<unsigned char> buffer(4 * kPageBytes);
  EXPECT_EQ(reader.next(buffer.data(), buffer.size())->size, 0u) << "not even its header is there";
  append("ghost-file-1.img", header.substr(5) + chunk + page.substr(0, 9));
  std::vector<std::string> parts;
  const auto take_all = [&] {
    for (;;) {
      const ImageChunk part = reader.next(buffer.data(), buffer.size()).value();
      if (part.size == 0) return;
      parts.push_back(std::to_string(part.size) + (part.pages ? " of pages" : ""));
    }
  };
  take_all();
  append("ghost-file-1.img", page.substr(9) + last + "short");
  ASSERT_TRUE(reader.scan(true));
  take_all();
  EXPECT_EQ(parts, (std::vector<std::string>{std::to_string(header.size()), std::to_string(chunk.size()), "4096 of pages",
                                             std::to_string(last.size()), "5 of pages"}));
  EXPECT_EQ(reader.bytes(), header.size() + chunk.size() + kPageBytes + last.size() + 5);
}

TEST_F(Images, ReaderOfAGhostFileWithoutChunksOrWithoutSense) {
  const std::string header = ghost_header(false);
  append("ghost-file-1.img", header + "contents");
  append("ghost-file-2.img", "MAGICS..\xff\xff\xff\xff all the same");
  append("ghost-file-3.img", ghost_header(true) + ghost_chunk(0) + "x");
  append("ghost-file-4.img", "MAG");
  ImageReader reader(path_);
  ASSERT_TRUE(reader.scan(true));
  std::map<std::string, std::string> parts;
  std::vector<unsigned char> buffer(4 * kPageBytes);
  for (;;) {
    const ImageChunk part = reader.next(buffer.data(), buffer.size()).value();
    if (part.size == 0) break;
    parts[reader.files()[part.file].name] += std::to_string(part.size) + (part.pages ? " of pages, " : ", ");
  }
  EXPECT_EQ(parts["ghost-file-1.img"], std::to_string(header.size()) + ", 8 of pages, ");
  EXPECT_EQ(parts["ghost-file-2.img"], "25, ");
  EXPECT_EQ(parts["ghost-file-3.img"],
            std::to_string(ghost_header(true).size()) + ", " + std::to_string(ghost_chunk(0).size() + 1) + ", ");
  EXPECT_EQ(parts["ghost-file-4.img"], "3, ");
}

TEST_F(Images, ReaderGivesMemoryBack) {
  constexpr std::size_t kSize = 20U << 20;
  append("pages-1.img", std::string(kSize, 'x'));
  ImageReader reader(path_);
  ASSERT_TRUE(reader.scan(true));
  std::vector<unsigned char> buffer(1U << 20);
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(reader.next(buffer.data(), buffer.size()));
  struct stat info {};
  ASSERT_EQ(::stat((path_ + "/pages-1.img").c_str(), &info), 0);
  EXPECT_EQ(info.st_size, static_cast<off_t>(kSize));
  EXPECT_LE(info.st_blocks * 512, 8 << 20);
}

TEST_F(Images, ReaderOfADirectoryThatIsGone) {
  ImageReader reader(path_ + "/nothing");
  const auto status = reader.scan(true);
  ASSERT_FALSE(status.has_value());
  EXPECT_EQ(status.error().message,
            "list images in " + path_ + "/nothing: No such file or directory");
}

TEST_F(Images, WriterTakesWhatIsInOrder) {
  ImageWriter writer(path_, 100);
  ASSERT_TRUE(writer.open(0, "pages-1.img"));
  ASSERT_TRUE(writer.open(1, "core_2.img"));
  ASSERT_TRUE(writer.write(chunk(0, 0, 3), bytes("abc")));
  ASSERT_TRUE(writer.write(chunk(1, 0, 1), bytes("x")));
  ASSERT_TRUE(writer.write(chunk(0, 3, 2), bytes("de")));
  EXPECT_EQ(writer.bytes(), 6u);
  ASSERT_TRUE(writer.complete({{"pages-1.img", 5}, {"core_2.img", 1}}));
  std::string text;
  std::ifstream(path_ + "/pages-1.img") >> text;
  EXPECT_EQ(text, "abcde");
}

TEST_F(Images, WriterRefusesBadNames) {
  ImageWriter writer(path_, 100);
  for (const std::string& name :
       {std::string("../x"), std::string("/etc/passwd"), std::string(""), std::string("."),
        std::string(".."), std::string(".hidden"), std::string("a/b"), std::string("a\0b", 3),
        std::string("a b"), std::string("\xff"), std::string(129, 'a')}) {
    EXPECT_EQ(refused(writer.open(0, name)), "'" + name + "' is no name of an image file");
  }
  EXPECT_TRUE(fs::is_empty(path_));
  EXPECT_FALSE(fs::exists(path_ + "/../x"));
}

TEST_F(Images, WriterNeverFollowsOrReplaces) {
  append("target", "precious");
  fs::create_symlink("target", path_ + "/link.img");
  ImageWriter writer(path_, 100);
  EXPECT_EQ(refused(writer.open(0, "link.img"), Errc::kSystem),
            "create image " + path_ + "/link.img: File exists");
  ASSERT_TRUE(writer.open(0, "a.img"));
  EXPECT_EQ(refused(writer.open(1, "a.img"), Errc::kSystem),
            "create image " + path_ + "/a.img: File exists");
}

TEST_F(Images, WriterRefusesWhatIsOutOfOrder) {
  ImageWriter writer(path_, 100);
  EXPECT_EQ(refused(writer.open(1, "a.img")), "image file number 1 is out of order");
  EXPECT_EQ(refused(writer.write(chunk(0, 0, 1), bytes("x"))),
            "image data for a file that was not announced");
  ASSERT_TRUE(writer.open(0, "a.img"));
  EXPECT_EQ(refused(writer.open(0, "b.img")), "image file number 0 is out of order");
  EXPECT_EQ(refused(writer.write(chunk(0, 1, 1), bytes("x"))),
            "image a.img: data at offset 1, expected 0");
  EXPECT_EQ(refused(writer.write(chunk(0, ~0ULL, 1), bytes("x"))),
            "image a.img: data at offset 18446744073709551615, expected 0");
}

TEST_F(Images, WriterRefusesTooMuch) {
  ImageWriter writer(path_, 5);
  ASSERT_TRUE(writer.open(0, "a.img"));
  ASSERT_TRUE(writer.write(chunk(0, 0, 3), bytes("abc")));
  EXPECT_EQ(refused(writer.write(chunk(0, 3, 3), bytes("def")), Errc::kRefused),
            "the images exceed the 5 bytes that were reserved for them");
  EXPECT_TRUE(writer.write(chunk(0, 3, 2), bytes("de")));
}

TEST_F(Images, WriterRefusesTooManyFiles) {
  ImageWriter writer(path_, 5);
  std::uint32_t number = 0;
  Status status;
  while (number < kImageFilesMax + 10 && status) {
    status = writer.open(number, "f" + std::to_string(number));
    if (status) ++number;
    if (!status && status.error().code == Errc::kSystem) GTEST_SKIP() << status.error().message;
  }
  EXPECT_EQ(number, kImageFilesMax);
}

TEST_F(Images, WriterNoticesWhatIsMissing) {
  ImageWriter writer(path_, 100);
  ASSERT_TRUE(writer.open(0, "a.img"));
  ASSERT_TRUE(writer.write(chunk(0, 0, 3), bytes("abc")));
  EXPECT_EQ(refused(writer.complete({})), "got 1 image files, the source has 0");
  EXPECT_EQ(refused(writer.complete({{"a.img", 4}})), "image a.img is truncated: got 3 bytes");
  EXPECT_EQ(refused(writer.complete({{"b.img", 3}})), "image a.img is truncated: got 3 bytes");
  EXPECT_EQ(refused(writer.complete({{"a.img", 3}, {"b.img", 1}})),
            "got 1 image files, the source has 2");
}

TEST_F(Images, DirectoryIsInMemoryAndGoesWithItsObject) {
  EXPECT_TRUE(is_in_memory(path_));
  EXPECT_FALSE(is_in_memory("/proc"));
  EXPECT_FALSE(is_in_memory(path_ + "/nothing"));
  std::string made;
  {
    auto directory = ImageDirectory::create(path_ + "/deep/er", "m1");
    ASSERT_TRUE(directory.has_value()) << directory.error().message;
    made = directory->path();
    EXPECT_EQ(made, path_ + "/deep/er/m1");
    std::ofstream(made + "/a") << "x";
    EXPECT_FALSE(ImageDirectory::create(path_ + "/deep/er", "m1").has_value());
    EXPECT_TRUE(fs::exists(made + "/a"));
    ImageDirectory moved = std::move(*directory);
    EXPECT_EQ(moved.path(), made);
  }
  EXPECT_FALSE(fs::exists(made));
}

TEST_F(Images, DirectoryOnADiskIsRefused) {
  if (is_in_memory(LIFEBOAT_SOURCE_DIR "/tests")) GTEST_SKIP() << "the source tree is on tmpfs";
  const auto directory = ImageDirectory::create(LIFEBOAT_SOURCE_DIR "/tests", "m1");
  ASSERT_FALSE(directory.has_value());
  EXPECT_EQ(directory.error().code, Errc::kRefused);
  EXPECT_EQ(directory.error().message,
            LIFEBOAT_SOURCE_DIR "/tests is not on tmpfs, so images would touch a disk; mount a "
                                "tmpfs there or set paths.run_dir to one");
}

}  // namespace
}  // namespace lifeboat
