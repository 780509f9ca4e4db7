// Embeds texts and a picture, classifies it, shows an error, and streams 1,000 texts.
//
//   example [ADDRESS [CA_FILE]]     the token, if any, is in SIGLIP_TOKEN

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>

#include "siglip/client.h"
#include "siglip/vectors.h"

namespace v1 = siglip::v1;

namespace {

std::string read_file(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << stream.rdbuf();
  return bytes.str();
}

// Says all that is known, and ends the program.
void check(const siglip::Error& error) {
  if (!error) return;
  std::cerr << siglip::code_name(error.code) << ": " << error.message << ' ' << error.reason << '\n';
  for (const auto& each : error.violations) std::cerr << "  " << each.field << ": " << each.description << '\n';
  if (error.retry_delay) std::cerr << "  again in " << error.retry_delay->count() << " ms\n";
  std::exit(1);
}

void embed(siglip::Client& client) {
  v1::EmbedTextsRequest texts;
  texts.add_texts("a red circle");
  texts.add_texts("a blue square");
  texts.mutable_options()->set_dtype(v1::DTYPE_F16);  // half the bytes
  auto embedded = client.embed_texts(texts);
  check(embedded.error);
  for (const auto& result : embedded.response.results())
    if (auto vector = siglip::decode(result.embedding()))
      std::cout << "a vector of " << vector->size() << " numbers: " << (*vector)[0] << ", ...\n";
}

void classify(siglip::Client& client, const std::string& image) {
  v1::ClassifyRequest request;
  request.add_images(image);
  for (const char* label : {"a red circle", "a blue square", "two yellow stars"}) request.add_labels(label);
  auto classified = client.classify(request, siglip::Milliseconds(10000));
  check(classified.error);
  for (const auto& result : classified.response.results()) {
    if (result.has_error()) std::cout << result.error().field() << ": " << result.error().message() << '\n';
    for (const auto& score : result.scores().scores())
      std::cout << score.probability() << "  " << score.label() << '\n';
  }
}

void be_refused(siglip::Client& client) {
  auto refused = client.embed_texts({});  // no texts
  std::cout << siglip::code_name(refused.error.code) << ' ' << refused.error.reason << '\n';
  for (const auto& each : refused.error.violations) std::cout << "  " << each.field << ": " << each.description << '\n';
}

void stream(siglip::Client& client) {
  int made = 0, vectors = 0;
  auto source = [&](v1::EmbedStreamItem* item) {
    item->set_text("picture number " + std::to_string(made));
    return made++ < 1000;
  };
  auto sink = [&](const v1::EmbedStreamResult& result) { vectors += siglip::decode(result.embedding()).has_value(); };
  siglip::StreamCounts counts;
  check(client.embed_stream(source, sink, {}, &counts));
  std::cout << vectors << " vectors, never more than " << counts.most_unanswered << " of the "
            << counts.allowed_unanswered << " allowed unanswered\n";
}

}  // namespace

int main(int argc, char** argv) {
  siglip::Access access;
  if (argc > 2) access.ca_file = argv[2];
  if (const char* token = std::getenv("SIGLIP_TOKEN")) access.token = token;
  siglip::Client client(argc > 1 ? argv[1] : "127.0.0.1:50051", access);

  embed(client);
  classify(client, read_file("../../samples/red-circle.jpg"));
  be_refused(client);
  stream(client);
}
