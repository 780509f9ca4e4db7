# frozen_string_literal: true

# Embeds texts, classifies a picture, shows an error, and streams 1,000 texts.
#
#   ruby example.rb [ADDRESS [CA_FILE]]     the token, if any, is in SIGLIP_TOKEN

$LOAD_PATH.unshift(File.join(__dir__, 'build'), File.join(__dir__, 'lib'))

require 'siglip/client'

def embed(client)
  options = Siglip::V1::EmbeddingOptions.new(dtype: :DTYPE_F16) # half the bytes
  request = Siglip::V1::EmbedTextsRequest.new(texts: ['a red circle', 'a blue square'], options: options)
  client.embed_texts(request).results.each do |result|
    vector = Siglip::Vectors.decode(result.embedding)
    puts "a vector of #{vector.size} numbers: #{vector.first}, ..."
  end
end

def classify(client, image)
  labels = ['a red circle', 'a blue square', 'two yellow stars']
  request = Siglip::V1::ClassifyRequest.new(images: [image], labels: labels)
  client.classify(request, timeout_s: 10).results.each do |result|
    puts "#{result.error.field}: #{result.error.message}" if result.error
    result.scores&.scores&.each { |score| puts "#{score.probability.round(3)}  #{score.label}" }
  end
end

def be_refused(client)
  client.embed_texts(Siglip::V1::EmbedTextsRequest.new) # no texts
rescue Siglip::CallError => e
  puts "#{e.code} #{e.reason}"
  e.violations.each { |each| puts "  #{each.field}: #{each.description}" }
end

def stream(client)
  items = (0...1000).lazy.map { |i| Siglip::V1::EmbedStreamItem.new(text: "picture number #{i}") }
  vectors = 0
  counts = Siglip::Flow::Counts.new
  client.embed_stream(items, counts: counts) { |result| vectors += 1 if result.embedding }
  puts "#{vectors} vectors, never more than #{counts.most_unanswered} of the " \
       "#{counts.allowed_unanswered} allowed unanswered"
end

client = Siglip::Client.new(ARGV.fetch(0, '127.0.0.1:50051'), ca_file: ARGV[1], token: ENV['SIGLIP_TOKEN'])
begin
  embed(client)
  classify(client, File.binread(File.join(__dir__, '../../samples/red-circle.jpg')))
  be_refused(client)
  stream(client)
rescue Siglip::CallError => e
  abort "#{e.code}: #{e.message}"
end
